"""A real server on this machine: `transformers serve` with a tiny model that was made on the spot."""

import asyncio
import importlib.util
import os
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from corl.rods.teachers.opening import TeacherPlan, open_teacher

ASK = [{"role": "user", "content": "Which finding?"}]
NEEDED = ("fastapi", "uvicorn")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not all(importlib.util.find_spec(name) for name in NEEDED), reason=f"{' and '.join(NEEDED)} are not installed"
    ),
]


@pytest.fixture
def server(tmp_path, make_checkpoint):
    """(base URL, model) of a server that is up; skips with what it said where it does not come up."""
    model = make_checkpoint(tmp_path / "tiny", ["Which finding? Tremor."])
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    log = tmp_path / "server.log"
    command = [Path(sys.executable).parent / "transformers", "serve", model, "--port", str(port), "--device", "cpu"]
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    with log.open("w") as out:
        process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, env=environment)
    try:
        end = time.monotonic() + 120
        while not is_up(port):
            if process.poll() is not None or time.monotonic() > end:
                pytest.skip(f"transformers serve does not start here: {log.read_text()[-500:]}")
            time.sleep(0.2)
        yield f"http://127.0.0.1:{port}/v1", str(model)
    finally:
        process.kill()
        process.wait()


def is_up(port: int) -> bool:
    try:
        return urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=1).status == 200
    except OSError:
        return False


def test_a_real_server_answers_and_is_asked_once(server, tmp_path) -> None:
    url, model = server

    async def run():
        plan = TeacherPlan(teacher=url, model=model, store=str(tmp_path / "s.sqlite"), concurrency=2, retries=1)
        async with open_teacher(plan) as teacher:
            answers = await teacher.complete(ASK, key="k", n=2, temperature=1.0, max_tokens=5)
            return answers, teacher.usage

    answers, usage = asyncio.run(run())
    assert len(answers) == 2 and all(isinstance(answer, str) for answer in answers)
    assert usage.asked == 2 and usage.prompt_tokens > 0 and 0 < usage.completion_tokens <= 10
    again, usage = asyncio.run(run())
    assert again == answers and (usage.asked, usage.stored) == (0, 2)
