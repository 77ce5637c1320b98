"""The NATS servers of the chart, run for real with what it renders: TLS both ways, accounts, and who is let in."""

import asyncio
import contextlib
import datetime
import os
import re
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import helm_python
import httpx
import nats
import nats.errors
import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from halfdrop.contracts.errors import Unavailable
from halfdrop.deploy.binaries import locate_nats_server
from halfdrop.deploy.ports import choose_port
from halfdrop.deploy.topology import wait_until_linked
from halfdrop.runtime.broker import open_broker, read_authority
from halfdrop.runtime.streams import ensure_bucket, ensure_hub_streams

CHART = Path(__file__).parents[2] / "deploy/helm/halfdrop"
PASSWORD = "0e9-f_u.~4"  # a URL must be able to hold it; what begins like a number is none to the configuration
DAY = datetime.timedelta(days=1)


class Authority:
    """A certificate authority for one test, and what it issues, as cert-manager lays it into Secrets."""

    def __init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test authority")])
        self._certificate = self._sign(self._name, self._key, is_authority=True)

    def issue(self, folder: Path, name: str) -> Path:
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        pem = serialization.Encoding.PEM
        folder.mkdir(parents=True)
        (folder / "tls.crt").write_bytes(self._sign(subject, key).public_bytes(pem))
        plain = serialization.NoEncryption()
        (folder / "tls.key").write_bytes(key.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain))
        (folder / "ca.crt").write_bytes(self._certificate.public_bytes(pem))
        return folder

    def _sign(
        self, subject: x509.Name, key: ec.EllipticCurvePrivateKey, *, is_authority: bool = False
    ) -> x509.Certificate:
        now = datetime.datetime.now(datetime.UTC)
        names = x509.SubjectAlternativeName([x509.DNSName("localhost")])
        usages = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH])
        made = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - DAY)
            .not_valid_after(now + DAY)
            .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
        )
        if not is_authority:
            made = made.add_extension(names, critical=False).add_extension(usages, critical=False)
        return made.sign(self._key, hashes.SHA256())


def rendered(values: dict[str, Any], kind: str, name: str) -> dict[str, Any]:
    """Return the object that the chart renders."""
    with helm_python.Chart.load(CHART) as chart:
        files = chart.render({"objects": {"url": "s3://x"}, **values}, name="halfdrop", namespace="halfdrop")
    objects = [one for path, text in files.items() if path.endswith(".yaml") for one in yaml.safe_load_all(text) if one]
    [found] = [one for one in objects if one["kind"] == kind and one["metadata"]["name"] == name]
    return dict(found)


def configuration(values: dict[str, Any], name: str) -> str:
    """Return the nats.conf that the chart renders into the ConfigMap `name`."""
    return str(rendered(values, "ConfigMap", name)["data"]["nats.conf"])


@asynccontextmanager
async def run_server(
    folder: Path, config: str, paths: Mapping[str, str], environ: Mapping[str, str]
) -> AsyncIterator[None]:
    """Run the server as its pod would: the same configuration, its paths and ports moved to here."""
    await asyncio.to_thread(folder.mkdir)
    for there, here in paths.items():
        assert there in config, f"{there} is not in the configuration any more"
        config = config.replace(there, here)
    (folder / "nats.conf").write_text(config)
    with (folder / "log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            locate_nats_server(),
            "--config",
            str(folder / "nats.conf"),
            env={**os.environ, **environ},
            stdout=log,
            stderr=log,
        )
    try:
        yield
    finally:
        process.terminate()
        await process.wait()


@asynccontextmanager
async def run_hub(tmp_path: Path, tls: Path, values: dict[str, Any]) -> AsyncIterator[tuple[str, int]]:
    """Yield the URL of its clients, with the hub's user, and the port of its leaf nodes."""
    port, leafs, monitor = choose_port(), choose_port(), choose_port()
    paths = {
        "/etc/nats/tls": str(tls),
        '"/data"': f'"{tmp_path}/hub/data"',
        "/var/run/nats/nats.pid": f"{tmp_path}/hub/pid",
        "0.0.0.0:4222": f"127.0.0.1:{port}",
        "0.0.0.0:7422": f"127.0.0.1:{leafs}",
        "0.0.0.0:8222": f"127.0.0.1:{monitor}",
    }
    names = ("HUB", "OPERATOR", "FORECASTER")
    environ = {"POD_NAME": "halfdrop-nats-0", **{f"{name}_PASSWORD": f'"{PASSWORD}"' for name in names}}
    async with run_server(tmp_path / "hub", configuration(values, "halfdrop-nats"), paths, environ):
        yield f"tls://hub:{PASSWORD}@localhost:{port}?ca={tls}/ca.crt", leafs


@asynccontextmanager
async def run_edge(tmp_path: Path, tls: Path, leafs: int, *, site: str) -> AsyncIterator[str]:
    port, monitor = choose_port(), choose_port()
    paths = {
        "/etc/nats/tls": str(tls),
        "/data/nats": f"{tmp_path}/{site}/data",
        "127.0.0.1:4222": f"127.0.0.1:{port}",
        "0.0.0.0:8222": f"127.0.0.1:{monitor}",
    }
    values = {"edge": {"hubs": [{"region": "eu", "leafs": f"tls://localhost:{leafs}"}]}}
    environ = {"POD_NAME": "halfdrop-edge-0", "EDGE_DOMAIN": f'"edge-{site}-0"'}
    async with run_server(tmp_path / site, configuration(values, "halfdrop-edge-nats"), paths, environ):
        yield f"nats://127.0.0.1:{port}"


@pytest.fixture
def trusted(tmp_path: Path) -> Authority:
    """An authority that the hub's clients trust, as the pods do: by the file that their URL names."""
    authority = Authority()
    authority.issue(tmp_path / "tls-hub", "halfdrop-nats")
    return authority


async def test_edges_reach_the_hub_that_knows_them_and_others_do_not(
    tmp_path: Path, trusted: Authority, wait_until: Any
) -> None:
    values = {"region": "eu", "nats": {"hub": {"edges": ["berlin"]}}}
    async with run_hub(tmp_path, tmp_path / "tls-hub", values) as (url, leafs):
        berlin = trusted.issue(tmp_path / "tls-berlin", "berlin")
        stranger = trusted.issue(tmp_path / "tls-stranger", "stranger")
        async with run_edge(tmp_path, berlin, leafs, site="berlin") as edge_url:
            await wait_until(lambda: _answers(edge_url))
            await wait_until_linked(edge_url, domain="hub-eu")
            async with (
                open_broker(url, name="hub", domain="hub-eu") as hub,
                open_broker(edge_url, name="edge", domain="edge-berlin-0") as edge,
            ):
                await ensure_hub_streams(hub.js)
                # An order, by the mapping that an edge of several regions needs.
                ack = await edge.jetstream("hub-eu").publish("to.eu.jobs.standard.t", b"order", stream="JOBS")
                assert (ack.stream, ack.seq) == ("JOBS", 1)
                # What the hub's people decide is not the edge's to write.
                plans = await ensure_bucket(hub.js, "PLANS")
                await plans.put("eu.gpu", b"plan")
                await edge.nc.publish("$KV.PLANS.eu.gpu", b"forged")
                await edge.nc.publish("jobs.standard.t", b"second")
                await edge.nc.flush()
                await wait_until(lambda: _has_messages(hub.js, "JOBS", 2))
                assert (await plans.get("eu.gpu")).value == b"plan"
        async with run_edge(tmp_path, stranger, leafs, site="stranger") as edge_url:
            await wait_until(lambda: _answers(edge_url))
            await wait_until(lambda: "Authorization Violation" in (tmp_path / "stranger/log").read_text())
            with pytest.raises(Unavailable):
                await wait_until_linked(edge_url, domain="hub-eu", timeout_s=0.5)


async def test_a_hubs_clients_need_tls_and_their_password(tmp_path: Path, trusted: Authority, wait_until: Any) -> None:
    async with run_hub(tmp_path, tmp_path / "tls-hub", {}) as (url, _):
        await wait_until(lambda: _answers(url))
        async with open_broker(url, name="hub", domain="hub") as hub:
            assert (await hub.js.account_info()).domain == "hub"
        stranger = Authority().issue(tmp_path / "tls-stranger", "stranger") / "ca.crt"
        for wrong in (
            re.sub(r":[^:@/]+@", ":wrong@", url),
            re.sub(r"\?ca=.*", f"?ca={stranger}", url),
            url.partition("?")[0],  # the system does not know our authority
        ):
            plain, context = read_authority(wrong)
            with pytest.raises((nats.errors.Error, OSError)):
                await nats.connect(plain, tls=context, allow_reconnect=False, connect_timeout=2)


async def test_the_forecaster_runs_on_what_its_pod_is_told_and_answers_its_probes(
    tmp_path: Path, trusted: Authority, wait_until: Any
) -> None:
    values = {"region": "eu", "hub": {"pools": {"gpu": {"pool": {"enabled": True}}}}, "forecaster": {"enabled": True}}
    (tmp_path / "pools.toml").write_text(
        rendered(values, "ConfigMap", "halfdrop-forecaster-pools")["data"]["pools.toml"]
    )
    pod = rendered(values, "Deployment", "halfdrop-forecaster")["spec"]["template"]["spec"]
    [container] = pod["containers"]
    async with run_hub(tmp_path, tmp_path / "tls-hub", values) as (url, _):
        await wait_until(lambda: _answers(url))
        page, metrics = choose_port(), choose_port()
        there = {
            "$(NATS_PASSWORD)@halfdrop-nats.halfdrop.svc:4222": url.removeprefix("tls://hub:").partition("?")[0],
            "/etc/halfdrop/tls": str(tmp_path / "tls-hub"),
            "/etc/halfdrop/pools": str(tmp_path),
            "s3://x": (tmp_path / "objects").as_uri(),
            "0.0.0.0": "127.0.0.1",
            "8090": str(page),
            "9464": str(metrics),
        }
        environ = {one["name"]: one["value"] for one in container["env"] if "value" in one}
        for old, new in there.items():
            assert any(old in value for value in environ.values()), f"{old} is not in the pod any more"
            environ = {name: value.replace(old, new) for name, value in environ.items()}
        with (tmp_path / "forecaster.log").open("wb") as log:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "halfdrop.forecaster", env={**os.environ, **environ}, stdout=log, stderr=log
            )
        try:
            async with httpx.AsyncClient(trust_env=False) as client:

                async def asked(probe: str) -> int:
                    get = container[probe]["httpGet"]
                    headers = {one["name"]: one["value"] for one in get["httpHeaders"]}
                    return (await client.get(f"http://127.0.0.1:{page}{get['path']}", headers=headers)).status_code

                async def is_ready() -> bool:
                    with contextlib.suppress(httpx.TransportError):
                        return await asked("startupProbe") == 200
                    return False

                async def keeps_history() -> bool:
                    text = (await client.get(f"http://127.0.0.1:{metrics}/metrics")).text
                    written = re.search(r'written_timestamp_seconds\{region="eu"\} (\S+)', text)
                    return "halfdrop_planner_build_info" in text and written is not None and float(written[1]) > 0

                await wait_until(is_ready, timeout_s=60)
                assert {await asked(probe) for probe in ("readinessProbe", "livenessProbe")} == {200}
                strange = await client.get(f"http://127.0.0.1:{page}/healthz", headers={"Host": f"10.1.2.3:{page}"})
                assert strange.status_code == 421, "why the probes say a name"
                await wait_until(keeps_history, timeout_s=60)
        finally:
            process.terminate()
            status = await asyncio.wait_for(process.wait(), pod["terminationGracePeriodSeconds"])
        assert status == 0, (tmp_path / "forecaster.log").read_text()


async def _answers(url: str) -> bool:
    try:
        plain, context = read_authority(url)
        client = await nats.connect(plain, tls=context, allow_reconnect=False, connect_timeout=1)
    except (OSError, TimeoutError, nats.errors.Error):
        return False
    await client.close()
    return True


async def _has_messages(js: Any, stream: str, count: int) -> bool:
    return bool((await js.stream_info(stream)).state.messages >= count)
