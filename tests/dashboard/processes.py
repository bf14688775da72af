"""The dashboard as a process, on a free port: started when it answers, stopped by its id."""

import os
import signal
import subprocess
import sys

from tests.processes import free_port, wait_until_ready


class Running:
    """The dashboard as a process of its own, ready to be asked."""

    def __init__(self, url: str, key: str) -> None:
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        code = "from dashboard.commands import dashboard; dashboard()"
        self.process = subprocess.Popen(
            [sys.executable, "-c", code, "--url", url, "--port", str(port), "--headless"],
            env={**os.environ, "RIALTO_KEY": key},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        wait_until_ready(self.process, f"{self.url}/_stcore/health")

    def stop(self, how: signal.Signals = signal.SIGTERM) -> int:
        if self.process.poll() is None:
            self.process.send_signal(how)
        try:
            return self.process.wait(20)
        finally:
            self.process.kill()
