"""Other people's servers, run beside ours on the same machine: installed here, never by the product."""
