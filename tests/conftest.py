"""Closes the network, gives the Hugging Face libraries an empty home, and keeps every test on one thread."""

import copy
import gc
import os
import socket
import tempfile
from collections.abc import Callable, Iterator
from ipaddress import ip_address
from typing import Any

import pytest
from interpreter import Interpreter

# Set at import: transformers, datasets and torch read these once, when they are first imported.
_HOME = tempfile.TemporaryDirectory(prefix="tevia-tests-")
os.environ.update(
    HF_HUB_OFFLINE="1",
    HF_DATASETS_OFFLINE="1",
    HF_HOME=_HOME.name,
    OMP_NUM_THREADS="1",
    TOKENIZERS_PARALLELISM="false",
)
for _finer_than_home in ("HF_HUB_CACHE", "HF_DATASETS_CACHE", "HF_MODULES_CACHE"):
    os.environ.pop(_finer_than_home, None)


# Not repeated on the lowest versions: whole commands, pages and processes, whose parts other tests try, and what
# depends on the standard library, torch and transformers alone, which both sets have in the same versions.
WHOLE = {
    "ablation",
    "distributed",
    "examples",
    "extending",
    "figshare",
    "intervals",
    "public_api",
    "push",
    "readme",
    "spaces",
}
SAME_VERSIONS = {
    "backbone",
    "exported",
    "layering",
    "paraphrasing",
    "text_families",
    "tools",
    "vision_families",
    "vision_layout",
}


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "once: not repeated on the lowest versions")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.stem.removeprefix("test_") in WHOLE | SAME_VERSIONS:
            item.add_marker(pytest.mark.once)


class NetworkAccessError(RuntimeError):
    """Not an OSError, which the libraries would take for a failed connection and pass over in silence."""


def is_loopback(host: Any) -> bool:
    """True for this machine's own addresses and names, which gloo and DataLoader workers need."""
    name = host.decode() if isinstance(host, bytes) else host
    if name in (None, "", "localhost"):
        return True
    try:
        return ip_address(name).is_loopback
    except ValueError:
        return False


def _refuse_unless_loopback(host: Any) -> None:
    if not is_loopback(host):
        raise NetworkAccessError(f"A test tried to reach {host!r}. Tests are offline: build what it needs in tmp_path.")


def _guarded_lookup(lookup: Callable[..., Any]) -> Callable[..., Any]:
    def guarded(host: Any, *args: Any, **kwargs: Any) -> Any:
        _refuse_unless_loopback(host)
        return lookup(host, *args, **kwargs)

    return guarded


def _guarded_connect(connect: Callable[..., Any]) -> Callable[..., Any]:
    def guarded(self: socket.socket, address: Any) -> Any:
        if self.family in (socket.AF_INET, socket.AF_INET6):
            _refuse_unless_loopback(address[0])
        return connect(self, address)

    return guarded


def pytest_collection_finish() -> None:
    """What was imported stays: each training would search all of it for garbage, which takes longer than its steps."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="module", autouse=True)
def what_a_file_imported_stays() -> Iterator[None]:
    yield
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def closed_network() -> Iterator[None]:
    """Raises NetworkAccessError at any name lookup or connection that leaves the machine."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("getaddrinfo", "gethostbyname", "gethostbyname_ex"):
            patch.setattr(socket, name, _guarded_lookup(getattr(socket, name)))
        for name in ("connect", "connect_ex"):
            patch.setattr(socket.socket, name, _guarded_connect(getattr(socket.socket, name)))
        yield


@pytest.fixture(scope="session")
def fresh_interpreter() -> Iterator[Interpreter]:
    """Runs code where nothing of this package, nor of the Hugging Face libraries, was ever imported."""
    with Interpreter() as interpreter:
        yield interpreter


@pytest.fixture(scope="session")
def built_tiny_model():
    """Built once a session; tests take a copy through `tiny_model`."""
    import torch
    from tiny import tiny_config

    from tevia_hf import TeViAForSegmentation

    torch.manual_seed(0)
    return TeViAForSegmentation(tiny_config())


@pytest.fixture
def tiny_model(built_tiny_model):
    return copy.deepcopy(built_tiny_model)
