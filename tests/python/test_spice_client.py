"""The Python client against the vectors the Rust side makes, and over a real oslo.messaging client and server."""

import json
import os
import pathlib
import socket
import stat
import subprocess
import sys
import time
import uuid

import oslo_messaging
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oslo_config import cfg

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "plugins" / "client"))

import spice_client  # noqa: E402
from spice_client import AuthError, CanonicalError, SignedRPCClient, Signer, TrustStore  # noqa: E402
from spice_client.__main__ import main  # noqa: E402
from spice_client.trust import parse_trust_file  # noqa: E402

VECTORS = ROOT / "tests" / "vectors"
SIGNED_PARTS = ("exchange", "topic", "server", "fanout", "namespace", "method", "version", "args")


def vectors(name):
    return json.loads((VECTORS / name).read_text())


def trust_of(vector):
    return TrustStore.of(parse_trust_file(json.dumps(entry).encode()) for entry in vector["trust"].values())


@pytest.fixture
def signer(tmp_path):
    def make(name="admin.pem", sender="alice", deployment="test-cloud"):
        path = tmp_path / name
        if not path.exists():
            path.write_bytes((VECTORS / name).read_bytes())
            path.chmod(0o600)
        return Signer(path, sender, deployment)

    return make


@pytest.fixture
def trust_dir(tmp_path):
    directory = tmp_path / "trust"
    directory.mkdir(mode=0o755)
    directory.chmod(0o755)
    for name, entry in vectors("requests.json")["trust"].items():
        (directory / f"{name}.json").write_text(json.dumps(entry))
    return directory


def edit(path, **changes):
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


# The same bytes as the Rust side.


def test_canonical_text_is_that_of_the_rust_side():
    for case in vectors("canonical.json")["accepted"]:
        value = spice_client.parse_strict(case["text"])
        assert spice_client.canonicalize(value).decode() == case["canonical"]


@pytest.mark.parametrize("text", vectors("canonical.json")["refused"])
def test_both_sides_refuse_the_same_texts(text):
    with pytest.raises(CanonicalError):
        spice_client.parse_strict(text)
    with pytest.raises(CanonicalError):
        spice_client.parse_strict(text.encode())


def test_requests_are_signed_byte_for_byte_as_the_rust_side_signs_them(signer):
    vector = vectors("requests.json")
    for case in vector["cases"]:
        parts = {name: case[name] for name in SIGNED_PARTS}
        auth, digest = spice_client.sign_request(signer(), **parts, time=case["time"], id=case["id"])
        assert auth == case["auth"]
        assert digest.hex() == case["digest"]
        verified = spice_client.verify_request(case["auth"], trust_of(vector), vector["deployment"], **parts)
        assert verified.digest == digest
        assert (verified.sender, verified.roles) == ("alice", {"admin"})


@pytest.mark.parametrize("case", vectors("requests.json")["refused"], ids=lambda case: case["name"])
def test_requests_are_refused_for_the_same_reason_as_on_the_rust_side(case):
    vector = vectors("requests.json")
    parts = {name: case[name] for name in SIGNED_PARTS}
    with pytest.raises(AuthError) as refused:
        spice_client.verify_request(case["auth"], trust_of(vector), vector["deployment"], **parts)
    assert refused.value.kind == case["kind"]


def test_replies_signed_by_the_rust_side_verify_and_a_changed_one_does_not():
    vector = vectors("replies.json")
    for case in vector["cases"]:
        expected = {
            "store": trust_of(vector),
            "deployment": vector["deployment"],
            "request_id": vector["request_id"],
            "request_digest": bytes.fromhex(vector["request_digest"]),
        }
        key = spice_client.verify_reply(case["auth"], **expected, role="checks", **{case["member"]: case["value"]})
        assert key.sender == "checks"
        with pytest.raises(AuthError, match="does not fit"):
            spice_client.verify_reply(case["auth"], **expected, role="checks", **{case["member"]: "other"})
        with pytest.raises(AuthError, match="nodes"):
            spice_client.verify_reply(case["auth"], **expected, role="nodes", **{case["member"]: case["value"]})


def test_documents_are_signed_byte_for_byte_as_the_rust_side_signs_them(signer):
    vector = vectors("documents.json")
    checks = signer("checks.pem", "checks")
    for case in vector["cases"]:
        assert spice_client.sign_document(case["kind"], case["content"], checks) == case["document"]
        content, key = spice_client.open_document(
            case["document"], case["kind"], trust_of(vector), "checks", "test-cloud"
        )
        assert (content, key.sender) == (case["content"], "checks")
        with pytest.raises(AuthError) as refused:
            spice_client.open_document(case["document"], case["kind"], trust_of(vector), "nodes", "test-cloud")
        assert refused.value.kind == "forbidden"
        with pytest.raises(AuthError) as refused:
            spice_client.open_document(case["document"], case["kind"], trust_of(vector), "checks", "other")
        assert refused.value.kind == "wrong_deployment"
    for case in vector["refused"]:
        with pytest.raises(AuthError) as refused:
            kind = case["kind"]
            spice_client.open_document(case["document"], kind, trust_of(vector), "checks", "test-cloud")
        assert refused.value.kind == case["refusal"]


# Rules.

numbers = st.integers(-(2**53) + 1, 2**53 - 1)
leaves = st.none() | st.booleans() | numbers | st.text(st.characters(exclude_categories=["Cs"]))
content = st.recursive(leaves, lambda inner: st.lists(inner) | st.dictionaries(st.text("aé😀"), inner), max_leaves=12)


@given(content)
def test_canonical_text_reads_back_as_the_same_value(value):
    text = spice_client.canonicalize(value)
    assert spice_client.parse_strict(text) == value
    assert spice_client.canonicalize(json.loads(text)) == text


@pytest.mark.parametrize("value", [1.0, float("nan"), 2**53, {1: 2}, {"a": b"x"}, "\ud800", {"\udfff": 1}, {1}])
def test_what_cannot_be_signed_is_refused_before_it_is_sent(value):
    with pytest.raises(CanonicalError):
        spice_client.canonicalize({"a": [value]})


@given(st.binary())
def test_no_input_breaks_the_parser(text):
    try:
        spice_client.parse_strict(text)
    except CanonicalError:
        pass


def test_deep_and_huge_input_is_refused_quickly():
    for text in ("[" * 100_000, '{"a":' * 100_000, "9" * 100_000, "[" * 33 + "]" * 33):
        with pytest.raises(CanonicalError):
            spice_client.parse_strict(text)


@settings(max_examples=50)
@given(st.dictionaries(st.text("abc", min_size=1), content, max_size=3), st.sampled_from(SIGNED_PARTS))
def test_any_change_of_a_request_breaks_its_signature(args, changed):
    vector = vectors("requests.json")
    key = spice_client.keys.load_pem_private_key((VECTORS / "admin.pem").read_bytes(), None)
    alice = object.__new__(Signer)
    alice._key, alice.sender, alice.deployment = key, "alice", "test-cloud"
    alice.key_id = vector["trust"]["alice"]["key_id"]
    parts = dict.fromkeys(SIGNED_PARTS, "x") | {"fanout": False, "args": args}
    auth, _ = spice_client.sign_request(alice, **parts)
    spice_client.verify_request(auth, trust_of(vector), "test-cloud", **parts)
    parts[changed] = {**args, "more": 1} if changed == "args" else not parts[changed]
    with pytest.raises(AuthError):
        spice_client.verify_request(auth, trust_of(vector), "test-cloud", **parts)


def test_the_time_window_is_closed_on_both_sides():
    for inside in (-60_000, 0, 60_000):
        spice_client.check_window(10**12 + inside, 10**12)
    for outside in (-60_001, 60_001):
        with pytest.raises(AuthError) as refused:
            spice_client.check_window(10**12 + outside, 10**12)
        assert refused.value.kind == "expired"


# Key and trust files.


def test_a_key_others_can_read_is_refused_with_the_remedy(signer, tmp_path):
    signer()
    (tmp_path / "admin.pem").chmod(0o640)
    with pytest.raises(spice_client.KeyFileError, match="chmod 600"):
        signer()


def test_a_fault_in_a_key_file_does_not_show_its_content(tmp_path):
    path = tmp_path / "bad.pem"
    path.write_text("-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n-----END PRIVATE KEY-----\n")
    path.chmod(0o600)
    with pytest.raises(spice_client.KeyFileError) as fault:
        Signer(path, "alice", "c")
    assert "c2VjcmV0" not in str(fault.value) and "secret" not in str(fault.value)


def test_debug_output_never_shows_a_key(signer):
    assert "key_id" in repr(signer())
    assert len(repr(signer())) < 120


def test_the_trust_store_follows_its_directory(trust_dir):
    store = TrustStore(trust_dir, poll_interval=0)
    key_id = vectors("requests.json")["trust"]["alice"]["key_id"]
    assert store.lookup(key_id).roles == {"admin"}
    edit(trust_dir / "alice.json", revoked_since=5)
    store._next = 0
    key = store.lookup(key_id)
    key.check_valid(4, 4)
    # A thief who signs with an earlier date is too late all the same.
    for times in ((5, 4), (4, 5)):
        with pytest.raises(spice_client.AuthError) as refused:
            key.check_valid(*times)
        assert refused.value.kind == "revoked"
    (trust_dir / "alice.json").unlink()
    store._next = 0
    assert store.lookup(key_id) is None
    assert len(store._keys) == 1


def test_a_damaged_file_leaves_what_it_said_before_in_force(trust_dir):
    store = TrustStore(trust_dir, poll_interval=0)
    key_id = vectors("requests.json")["trust"]["alice"]["key_id"]
    before = store.lookup(key_id)
    file = trust_dir / "alice.json"
    for content, mode in ((file.read_text()[:50], 0o644), ("", 0o644), (file.read_text(), 0o666)):
        file.write_text(content)
        file.chmod(mode)
        for _ in range(2):
            store._next = 0
            assert store.lookup(key_id) == before
        assert len(store.faults) == 1
    assert TrustStore(trust_dir).lookup(key_id) is None, "at a start it trusts nobody"


def test_keys_overlap_while_one_follows_another(trust_dir):
    edit(trust_dir / "alice.json", not_before=100, not_after=200)
    key = TrustStore(trust_dir).lookup(vectors("requests.json")["trust"]["alice"]["key_id"])
    key.check_valid(100, 200)
    for times in ((99, 150), (150, 201), (201, 150)):
        with pytest.raises(spice_client.AuthError) as refused:
            key.check_valid(*times)
        assert refused.value.kind == "out_of_time"


def test_a_directory_that_cannot_be_read_leaves_the_last_keys_in_force(trust_dir):
    store = TrustStore(trust_dir, poll_interval=0)
    trust_dir.chmod(0o777)
    store._next = 0
    assert store.lookup(vectors("requests.json")["trust"]["alice"]["key_id"])
    with pytest.raises(ValueError, match="chmod go-w"):
        TrustStore(trust_dir)


@pytest.mark.parametrize(
    "changes",
    [
        {"roles": []},
        {"roles": ["adapter:"]},
        {"roles": "admin"},
        {"key_id": "0" * 32},
        {"public_key": "AAAA"},
        {"sender": "-x"},
        {"revoked_since": "yesterday"},
        {"revoked_since": True},
        {"not_after": -1},
        {"not_before": 2, "not_after": 1},
        {"revoked_sinse": 1},
    ],
    ids=str,
)
def test_a_faulty_trust_file_trusts_nobody(trust_dir, changes):
    edit(trust_dir / "alice.json", **changes)
    store = TrustStore(trust_dir)
    assert len(store.faults) == 1
    assert len(store._keys) == 1


def test_a_trust_file_others_can_write_trusts_nobody(trust_dir):
    (trust_dir / "alice.json").chmod(0o664)
    store = TrustStore(trust_dir)
    assert "chmod go-w" in store.faults[0] and len(store._keys) == 1


def test_a_forgotten_copy_does_not_undo_a_revocation(trust_dir):
    text = (trust_dir / "alice.json").read_text()
    edit(trust_dir / "alice.json", revoked_since=5, roles=["admin", "nodes"])
    (trust_dir / "zz-old.json").write_text(text)
    key = TrustStore(trust_dir).lookup(json.loads(text)["key_id"])
    assert (key.roles, key.revoked_since) == ({"admin"}, 5)


def test_only_the_ladder_of_administrators_implies_other_roles():
    assert spice_client.satisfies(["admin"], "reader") and spice_client.satisfies(["operator"], "reader")
    assert not spice_client.satisfies(["reader"], "operator") and not spice_client.satisfies(["admin"], "checks")
    assert not spice_client.satisfies([], "reader")


# Over oslo.messaging, unmodified.


class Endpoint:
    """Verifies every request as a SPICE server does."""

    target = oslo_messaging.Target(version="1.5", namespace=None)

    def __init__(self, store):
        self.store = store
        self.seen = []

    def check_list(self, ctxt, **args):
        return self.served(ctxt, "check_list", args)

    def served(self, ctxt, method, args, **target):
        auth = ctxt.get("spice_auth")
        parts = {"exchange": "spice", "topic": "spice-checks", "method": method, "args": args, **target}
        claimed = auth or {}
        verified = spice_client.verify_request(
            auth,
            self.store,
            "test-cloud",
            **parts,
            server=claimed.get("server"),
            fanout=claimed.get("fanout", False),
            version=claimed and self.version,
        )
        spice_client.check_window(verified.time)
        self.seen.append((claimed["server"], claimed["fanout"], ctxt.get("request_id")))
        return {"sender": verified.sender, "args": args}

    version = None


@pytest.fixture
def server(trust_dir):
    # The global one: oslo.messaging registers some of its options nowhere else.
    conf = cfg.CONF
    conf([], project="test", default_config_files=[], default_config_dirs=[])
    transport = oslo_messaging.get_rpc_transport(conf, url=f"fake://{uuid.uuid4().hex}/")
    endpoint = Endpoint(TrustStore(trust_dir))
    target = oslo_messaging.Target(exchange="spice", topic="spice-checks", server="s1")
    running = oslo_messaging.get_rpc_server(transport, target, [endpoint])
    running.start()
    yield transport, endpoint
    running.stop()
    running.wait()


def test_calls_to_the_topic_to_a_server_and_with_a_version_verify(server, signer):
    transport, endpoint = server
    client = SignedRPCClient(transport, "spice-checks", signer(), timeout=10, context={"request_id": "req-1"})
    args = {"name": "boot", "nodes": ["n1"], "limit": 3, "grün": None}
    assert client.call("check_list", **args) == {"sender": "alice", "args": args}
    client.prepare(server="s1").call("check_list")
    endpoint.version = "1.2"
    client.prepare(version="1.2", timeout=5).call("check_list")
    assert endpoint.seen == [(None, False, "req-1"), ("s1", False, "req-1"), (None, False, "req-1")]


def test_a_fanout_cast_is_signed_for_all_servers(server, signer):
    transport, endpoint = server
    client = SignedRPCClient(transport, "spice-checks", signer(), timeout=10)
    client.prepare(fanout=True, server="ignored").cast("check_list")
    client.call("check_list")
    # Fanout has a queue of its own, so the call may be served first.
    deadline = time.monotonic() + 10
    while len(endpoint.seen) < 2 and time.monotonic() < deadline:
        time.sleep(0.02)
    assert sorted(entry[1] for entry in endpoint.seen) == [False, True]
    assert all(entry[0] is None for entry in endpoint.seen)


@pytest.mark.parametrize(
    ("changes", "kind"),
    [({"sender": "bob"}, "sender_mismatch"), ({"deployment": "other"}, "wrong_deployment")],
    ids=["sender", "deployment"],
)
def test_a_wrong_identity_is_refused_by_the_server(server, signer, changes, kind):
    client = SignedRPCClient(server[0], "spice-checks", signer(**changes), timeout=10)
    with pytest.raises(Exception) as refused:
        client.call("check_list")
    assert getattr(refused.value, "exc_type", type(refused.value).__name__).startswith("AuthError"), kind


def test_an_argument_that_cannot_be_signed_is_never_sent(server, signer):
    client = SignedRPCClient(server[0], "spice-checks", signer(), timeout=10)
    with pytest.raises(CanonicalError):
        client.call("check_list", limit=1.5)
    assert server[1].seen == []


def test_arguments_may_have_any_name(server, signer):
    client = SignedRPCClient(server[0], "spice-checks", signer(), timeout=10)
    assert client.call("check_list", topic="x", signer="y")["args"] == {"topic": "x", "signer": "y"}


# The command line.


def test_the_command_line_refuses_what_is_no_json(capsys, signer):
    signer()
    with pytest.raises(SystemExit) as left:
        main(["--key", "k", "--sender", "a", "--deployment", "d", "topic", "method", "name=boot"])
    assert left.value.code == 2
    assert "quotes" in capsys.readouterr().err


def test_the_command_line_names_a_key_file_that_cannot_be_used(capsys, tmp_path):
    base = ["--sender", "a", "--deployment", "d", "topic", "method"]
    assert main(["--transport-url", "fake:///", "--key", str(tmp_path / "none.pem"), *base]) == 2
    assert "none.pem" in capsys.readouterr().err


def test_the_command_line_says_when_nobody_answers(capsys, signer, tmp_path):
    signer()
    key = str(tmp_path / "admin.pem")
    base = ["--transport-url", "fake:///", "--key", key, "--sender", "alice", "--deployment", "c", "--timeout", "0.2"]
    assert main([*base, "nowhere", "status", "a=1"]) == 3
    assert "no answer from nowhere" in capsys.readouterr().err


def test_the_command_line_gives_up_on_a_broker_that_is_gone(capsys, signer, tmp_path, monkeypatch):
    signer()
    with socket.socket() as taken:
        # Bound but not listening: connecting is refused, and nobody else can take the port.
        taken.bind(("127.0.0.1", 0))
        url = f"rabbit://u:secret@127.0.0.1:{taken.getsockname()[1]}/"
        monkeypatch.setattr(spice_client.__main__, "CONNECTING", 0.5)
        base = ["--transport-url", url, "--key", str(tmp_path / "admin.pem"), "--sender", "alice", "--deployment", "c"]
        assert main([*base, "--timeout", "0.5", "spice-checks", "status"]) == 3
    told = capsys.readouterr().err
    assert "not reached" in told and "secret" not in told


def test_the_package_runs_as_a_program():
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "plugins" / "client")}
    command = [sys.executable, "-m", "spice_client", "--help"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert "TOPIC" in done.stdout


def test_the_private_keys_in_the_repository_are_those_of_the_tests_only():
    assert {path.name for path in VECTORS.glob("*.pem")} == {"admin.pem", "checks.pem"}
    assert not any(stat.S_IMODE(path.stat().st_mode) & 0o111 for path in VECTORS.iterdir())
