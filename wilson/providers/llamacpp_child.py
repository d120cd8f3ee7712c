"""The child: one process, one model, one llama.cpp server.

It is started as a plain file, so that it imports nothing of Wilson and nothing from the folder it happens to stand in.
The first line of stdin is a JSON object of settings; after it stdin stays open, and when it closes, because the parent
has ended in whatever way, the child leaves at once. Stdout carries one JSON object a line:

    {"event": "ready", "url": "http://127.0.0.1:PORT"}
    {"event": "failed", "kind": "import|load", "message": "..."}

Whatever llama.cpp says goes to stderr. There is no clean-up: the end of the process is the unload, at any moment.
"""

import ctypes
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from typing import Any, NoReturn

PR_SET_PDEATHSIG = 1


def main() -> None:
    parent = os.getppid()
    die_with_parent()
    if os.getppid() != parent:  # The parent ended before the kernel was told to watch it.
        os._exit(0)
    tell = Channel()
    settings = read_settings()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl+C is for the terminal's program.
    prefer_to_be_ended()
    # A command is started first: a process with threads should not fork.
    server, port = start_command(settings, tell) if settings["command"] else (None, 0)
    threading.Thread(target=leave_with_parent, daemon=True).start()
    if server:
        serve_with_command(server, port, tell)
    else:
        serve_with_library(settings, tell)


class Channel:
    """The way to the parent: the real stdout, which native code must not write to."""

    def __init__(self) -> None:
        self._out = os.fdopen(os.dup(1), "w", encoding="utf-8", buffering=1)
        os.dup2(2, 1)

    def __call__(self, event: str, **more: object) -> None:
        self._out.write(json.dumps({"event": event, **more}) + "\n")
        self._out.flush()

    def fail(self, kind: str, message: str) -> NoReturn:
        self("failed", kind=kind, message=message)
        os._exit(1)


def read_settings() -> dict[str, Any]:
    line = b""
    while not line.endswith(b"\n"):
        byte = os.read(0, 1)
        if not byte:
            os._exit(0)
        line += byte
    settings: dict[str, Any] = json.loads(line)
    return settings


def leave_with_parent() -> None:
    while os.read(0, 4096):
        pass
    # A server that was started as a command is in the same process group, and has nobody else.
    os.killpg(0, signal.SIGKILL)


def die_with_parent() -> None:
    """Linux ends this process with the thread that started it; elsewhere the closing of stdin has to do."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def prefer_to_be_ended() -> None:
    """Should the machine run out of memory, Linux ends this process first, not the conversation."""
    try:
        with open("/proc/self/oom_score_adj", "w") as file:
            file.write("900")
    except OSError:
        pass


def serve_with_library(settings: dict[str, Any], tell: Channel) -> None:
    try:
        import xllamacpp  # type: ignore[import-not-found, import-untyped, unused-ignore] # an optional extra
    except ImportError as error:
        tell.fail("import", str(error))
    params = xllamacpp.CommonParams()
    params.model.path = settings["model"]
    wanted = {
        "model_alias": {settings["alias"]},
        "hostnames": ["127.0.0.1"],
        "port": 0,  # The system chooses a free one.
        "api_keys": [settings["api_key"]],
        "cors_origins": "http://127.0.0.1",  # The default lets any web page talk to the server.
        "ui": False,
        "n_ctx": settings["context"],
        "n_parallel": 1,
        "n_gpu_layers": -1,
        "n_batch": settings["batch"],
        "n_ubatch": settings["batch"],
        "cache_ram_mib": settings["cache_mb"],  # The default grows to 8 GiB.
        # The fitter reads the model a second time to divide it between devices; with none it only costs time.
        "fit_params": has_gpu(xllamacpp),
        "verbosity": 2,
        # One private copy, all of it gone with the process; mapped 4-bit weights would be held twice.
        "load_mode": getattr(getattr(xllamacpp, "llama_load_mode", None), "LLAMA_LOAD_MODE_NONE", None),
        # llama.cpp has its own way of dropping old tokens in silence.
        "ctx_shift": False,
    }
    for name, value in wanted.items():
        # Attribute names follow llama.cpp's inside and change with it; what this build lacks, it does without.
        if value is not None and hasattr(params, name):
            setattr(params, name, value)
    for threads in (params.cpuparams, params.cpuparams_batch):
        threads.n_threads = settings["threads"]
    try:
        server = xllamacpp.Server(params)
    except Exception as error:
        tell.fail("load", str(error))
    tell("ready", url=server.listening_address)
    threading.Event().wait()  # The server lives in threads of its own until this process is ended.


def has_gpu(xllamacpp: Any) -> bool:
    cpu = xllamacpp.ggml_backend_dev_type.GGML_BACKEND_DEVICE_TYPE_CPU
    return any(device["type"] != cpu for device in xllamacpp.get_device_info())


def start_command(settings: dict[str, Any], tell: Channel) -> "tuple[subprocess.Popen[bytes], int]":
    port = free_port()
    arguments = [
        settings["command"],
        *("--model", settings["model"], "--alias", settings["alias"]),
        *("--host", "127.0.0.1", "--port", str(port)),
        *("--ctx-size", str(settings["context"]), "--parallel", "1"),
        *("--threads", str(settings["threads"]), "--batch-size", str(settings["batch"])),
        *("--no-webui", "--jinja"),
    ]
    try:
        # The key goes by the environment: arguments can be read by everybody on the machine.
        server = subprocess.Popen(
            arguments,
            stdin=subprocess.DEVNULL,
            stdout=2,
            env={**os.environ, "LLAMA_API_KEY": settings["api_key"]},
            preexec_fn=die_with_parent,
        )
    except OSError as error:
        tell.fail("import", f"{settings['command']}: {error.strerror}")
    return server, port


def serve_with_command(server: "subprocess.Popen[bytes]", port: int, tell: Channel) -> None:
    while server.poll() is None:
        if answers(port):
            tell("ready", url=f"http://127.0.0.1:{port}")
            code = server.wait()
            os._exit(code if code >= 0 else 1)
        time.sleep(0.05)
    tell.fail("load", f"llama-server ended with code {server.returncode}")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def answers(port: int) -> bool:
    """``/health`` says 503 while the model loads, and 200 afterwards."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
    try:
        connection.request("GET", "/health")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


if __name__ == "__main__":
    main()
