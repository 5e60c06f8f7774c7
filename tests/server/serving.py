"""A real server on a loopback port, as a process of its own, and what its tests say and read."""

import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import httpx
import numpy as np
from PIL import Image

HERE = Path(__file__).parent


class RunningServer:
    """A server process with a client."""

    def __init__(self, state, markers, **settings):
        self.state = state
        self.markers = markers
        self.settings = {"port": 0, "setup": "fake_engines:install", "state": str(state)} | settings
        self.log = []
        self._start()

    def _start(self):
        environment = os.environ | {
            "PYTHONPATH": os.pathsep.join([str(HERE), os.environ.get("PYTHONPATH", "")]),
            "PYTHONWARNINGS": "error",
            "OMP_WAIT_POLICY": "PASSIVE",
            "IMPASTO_TEST_MARKERS": str(self.markers),
        }
        self.process = subprocess.Popen(
            [sys.executable, str(HERE / "run_server.py"), json.dumps(self.settings)],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._reader = threading.Thread(target=self._read_log, args=(self.process.stderr,), daemon=True)
        self._reader.start()
        self.url = self.process.stdout.readline().strip()
        assert self.url, "\n".join(self.log)
        headers = {"Authorization": f"Bearer {self.settings['token']}"} if "token" in self.settings else {}
        self.client = httpx.Client(base_url=self.url, timeout=60, headers=headers, trust_env=False)
        self.wait_until(lambda: self.client.get("/readyz").status_code == 200)

    def _read_log(self, stream):
        for line in stream:
            self.log.append(line.rstrip())

    def events(self, name):
        """Log lines of one event."""
        return [row for row in (json.loads(line) for line in self.log if line.startswith("{")) if row["event"] == name]

    def wait_until(self, condition, seconds=60):
        end = time.monotonic() + seconds
        while True:
            try:
                found = condition()
            except httpx.TransportError:
                found = None
            if found:
                return found
            assert time.monotonic() < end, f"it never came true; log:\n{chr(10).join(self.log[-30:])}"
            assert self.process.poll() is None, "\n".join(self.log)
            time.sleep(0.05)

    def kill(self):
        """As a power cut would."""
        self.process.send_signal(signal.SIGKILL)
        self.stop()

    def end(self):
        """As an administrator would."""
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(30)

    def restart(self):
        self.stop()
        self._start()

    def stop(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        self.process.wait(30)
        self.client.close()
        self._reader.join(10)
        self.process.stdout.close()
        self.process.stderr.close()

    # -- what tests do often -------------------------------------------------------------------------------------------

    def job(self, **fields):
        """Start a job; gives its id."""
        answer = self.client.post("/v1/jobs", json=fields)
        assert answer.status_code == 202, answer.text
        return answer.json()["id"]

    def status(self, job_id):
        return self.client.get(f"/v1/jobs/{job_id}").json()["status"]

    def ended(self, job_id, seconds=60):
        """The job, once it has ended."""

        def look():
            job = self.client.get(f"/v1/jobs/{job_id}").json()
            return job if job["status"] in ("done", "failed", "cancelled") else None

        return self.wait_until(look, seconds)

    def stored_files(self):
        """Pictures and results on disk, drafts included."""
        return sorted(
            str(path.relative_to(self.state))
            for folder in ("pictures", "results", "temporary")
            for path in (self.state / folder).rglob("*")
            if path.is_file()
        )


def jpeg(pixels, quality=90):
    """A JPEG file's bytes."""
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG", quality=quality)
    return stream.getvalue()


def png(pixels):
    """A PNG file's bytes."""
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


def pixels_in(data):
    """A picture's pixels from its file's bytes."""
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image)


def problem(answer, status, kind=None):
    """Check that an answer is a problem, and give it."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    body = answer.json()
    assert body["status"] == status and body["detail"] and body["title"] and "\n" not in body["detail"]
    assert body["type"].startswith("urn:impasto:problem:")
    assert body["instance"] == f"urn:impasto:request:{answer.headers['x-request-id']}"
    if kind is not None:
        assert body["type"] == f"urn:impasto:problem:{kind}"
    return body
