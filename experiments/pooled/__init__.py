"""The pooled model: a hurdle with refunds, partially pooled, sampled with PyMC. Never imported by the API."""
