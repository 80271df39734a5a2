"""Redis by TLS: every party gets there with ``rediss://``, and says clearly why it does not."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING, Any, Self

import orjson
import pytest

from penstock import keys
from penstock.bus.connection import check, connect
from penstock.cli.embedded_redis import free_port
from penstock.contracts.catalogue import SERVICES
from penstock.errors import Unavailable
from tests.guarded_redis import binaries, wait_for
from tests.support import wait_until
from tests.system.processes import PENSTOCK

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def tls_server() -> str | None:
    """A server that was built with TLS: one without stops at the option."""
    for binary in binaries():
        said = subprocess.run(
            [binary.path, "--port", "0", "--tls-port", str(free_port()), "--tls-cert-file", "/dev/null"],
            capture_output=True,
            text=True,
            check=False,
            timeout=10,
        )
        if "Failed to configure TLS" in said.stdout:
            return binary.path
    return None


SERVER = tls_server()
pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(SERVER is None, reason="no Redis with TLS on this machine"),
    pytest.mark.skipif(shutil.which("openssl") is None, reason="no openssl to make certificates with"),
]


def openssl(*arguments: str, directory: Path) -> None:
    subprocess.run(["openssl", *arguments], cwd=directory, capture_output=True, check=True)


def make_authority(directory: Path, name: str) -> None:
    """A certificate authority: ``<name>.crt`` and ``<name>.key``."""
    subject = ["-subj", f"/CN={name}", "-addext", "basicConstraints=critical,CA:TRUE"]
    extensions = ["-addext", "keyUsage=critical,keyCertSign,cRLSign"]
    new = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
    openssl(*new, *subject, *extensions, "-keyout", f"{name}.key", "-out", f"{name}.crt", directory=directory)


def make_certificate(directory: Path, name: str, authority: str, alternative: str) -> None:
    new = ["req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-subj", f"/CN={name}"]
    openssl(*new, "-keyout", f"{name}.key", "-out", f"{name}.csr", directory=directory)
    (directory / f"{name}.ext").write_text(
        f"subjectAltName={alternative}\nkeyUsage=critical,digitalSignature\nauthorityKeyIdentifier=keyid\n"
    )
    signed = ["x509", "-req", "-in", f"{name}.csr", "-CA", f"{authority}.crt", "-CAkey", f"{authority}.key"]
    more = ["-CAcreateserial", "-days", "2", "-extfile", f"{name}.ext"]
    openssl(*signed, *more, "-out", f"{name}.crt", directory=directory)


class Sealed:
    """A Redis that answers by TLS only and wants to see a certificate of its clients.

    Args:
        directory: for its files.
        certificate: which it shows.
    """

    def __init__(self, directory: Path, certificate: str = "server") -> None:
        self.directory = directory
        self.port = free_port()
        self._certificate = certificate

    def url(self, *, authority: str = "ours", **more: str) -> str:
        client = {"ssl_certfile": self.directory / "client.crt", "ssl_keyfile": self.directory / "client.key"}
        words = {"ssl_ca_certs": self.directory / f"{authority}.crt", **client, **more}
        query = "&".join(f"{name}={value}" for name, value in words.items())
        return f"rediss://127.0.0.1:{self.port}/0?{query}"

    def __enter__(self) -> Self:
        assert SERVER
        options = {
            "port": "0",
            "tls-port": str(self.port),
            "bind": "127.0.0.1",
            "save": "",
            "dir": str(self.directory),
            "tls-cert-file": str(self.directory / f"{self._certificate}.crt"),
            "tls-key-file": str(self.directory / f"{self._certificate}.key"),
            "tls-ca-cert-file": str(self.directory / "ours.crt"),
        }
        words = [word for name, value in options.items() for word in (f"--{name}", value)]
        with (self.directory / "redis.log").open("ab") as log:
            self._process = subprocess.Popen([SERVER, *words], stdout=log, stderr=log)
        wait_for(self.url(ssl_cert_reqs="none", ssl_check_hostname="false"))
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("certificates")
    make_authority(directory, "ours")
    make_authority(directory, "another")
    make_certificate(directory, "server", "ours", "IP:127.0.0.1,DNS:localhost")
    make_certificate(directory, "elsewhere", "ours", "DNS:redis.example")
    make_certificate(directory, "client", "ours", "DNS:client")
    return directory


@pytest.fixture
def sealed(certificates: Path) -> Iterator[Sealed]:
    with Sealed(certificates) as server:
        yield server


def environment(url: str, home: Path) -> dict[str, str]:
    ours = {name: value for name, value in os.environ.items() if not name.startswith("PENSTOCK_")}
    return {**ours, "PENSTOCK_REDIS_URL": url, "PENSTOCK_HEALTH_PORT": "-1", "PENSTOCK_UP_HOME": str(home)}


def penstock(url: str, home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*PENSTOCK, *arguments], env=environment(url, home), capture_output=True, text=True, check=False, timeout=60
    )


async def test_services_worker_and_commands_work_by_tls(sealed: Sealed, tmp_path: Path) -> None:
    url = sealed.url()
    commands = [[sys.executable, "-m", f"services.{service}"] for service in SERVICES]
    commands.append([*PENSTOCK, "worker", "start", "--pool", "etl", "--type", "process"])
    client = connect(url)
    processes: list[subprocess.Popen[bytes]] = []
    with (tmp_path / "log").open("ab") as log:

        def start(command: list[str]) -> None:
            processes.append(subprocess.Popen(command, env=environment(url, tmp_path), stdout=log, stderr=log))

        try:
            for command in commands[:-1]:
                start(command)

            async def started() -> Any:
                return await client.exists(keys.PARTITIONS_KEY)

            await wait_until(started, what="the services")
            start(commands[-1])

            async def served() -> bool:
                found = penstock(url, tmp_path, "work-pool", "ls", "-o", "json")
                return found.returncode == 0 and [pool["status"] for pool in orjson.loads(found.stdout)] == ["READY"]

            await wait_until(served, what=f"the worker's pool; {tmp_path / 'log'}", every=0.2)
            done = penstock(
                url, tmp_path, "flow-run", "submit", "--pool", "etl", "--command", "echo hi", "--count", "5", "--wait"
            )
            assert done.returncode == 0, done.stdout + done.stderr
        finally:
            for process in reversed(processes):
                process.terminate()
            codes = [process.wait(20) for process in reversed(processes)]
            await client.aclose()
    assert codes == [0] * len(commands), (tmp_path / "log").read_text()


async def said_of(url: str) -> str:
    client = connect(url, retries=0)
    try:
        with pytest.raises(Unavailable) as refused:
            await check(client, url)
    finally:
        await client.aclose()
    return str(refused.value)


async def test_a_server_of_another_authority_is_not_trusted(sealed: Sealed, tmp_path: Path) -> None:
    said = await said_of(sealed.url(authority="another"))
    assert f"Redis at 127.0.0.1:{sealed.port}/0 is not trusted" in said
    assert "ssl_ca_certs" in said
    done = penstock(sealed.url(authority="another"), tmp_path, "work-pool", "ls")
    assert done.returncode == 3
    assert "is not trusted" in done.stderr
    assert "Traceback" not in done.stderr


async def test_a_server_with_the_certificate_of_another_host_is_not_trusted(certificates: Path) -> None:
    with Sealed(certificates, "elsewhere") as server:
        said = await said_of(server.url())
    assert "is not trusted" in said
    assert "by the name in its certificate" in said


async def test_without_a_certificate_of_its_own_a_client_is_told_that_tls_failed(sealed: Sealed) -> None:
    said = await said_of(f"rediss://127.0.0.1:{sealed.port}/0?ssl_ca_certs={sealed.directory / 'ours.crt'}")
    assert f"127.0.0.1:{sealed.port}" in said
    assert "TLS" in said


async def test_a_server_without_tls_is_told_from_one_that_is_away(redis_url: str) -> None:
    said = await said_of(redis_url.replace("redis://", "rediss://"))
    assert "TLS" in said


def test_a_file_that_does_not_exist_is_said_to_be_missing(sealed: Sealed, tmp_path: Path) -> None:
    done = penstock(sealed.url(authority="missing"), tmp_path, "work-pool", "ls")
    assert done.returncode == 2
    assert "missing.crt does not exist" in done.stderr


def test_an_option_that_does_not_exist_is_an_error_of_the_settings(sealed: Sealed, tmp_path: Path) -> None:
    done = penstock(sealed.url(ssl_ca_cert="x"), tmp_path, "work-pool", "ls")
    assert done.returncode == 2, done.stderr
    assert "ssl_ca_cert" in done.stderr
    service = subprocess.run(
        [sys.executable, "-m", "services.scheduler"],
        env=environment(sealed.url(ssl_ca_cert="x"), tmp_path),
        capture_output=True,
        text=True,
        check=False,
        timeout=20,
    )
    assert service.returncode == 78, service.stderr
    assert "ssl_ca_cert" in service.stderr
