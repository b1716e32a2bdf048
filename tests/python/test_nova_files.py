"""What the filter believes: missing, damaged, foreign, expired and silent files, and files replaced under its eyes."""

import os
import socket

import pool_writer
import pytest
from nova_support import MINUTE, START, TRUSTED, pool
from spice_nova import filter as spice_filter
from spice_nova import poolfile, runtime, source

LATER = START + 60 * MINUTE
MEMBERS = {"good": ("t", LATER), "bad": ("u", None)}
NAMES = ["good", "bad", "stranger"]


def refuses_all(cloud):
    """Every node unknown, and `unknown` matches none either."""
    return all(
        cloud.passing(NAMES, {"trust:trusted_host": level}) == [] for level in ("trusted", "untrusted", "unknown")
    ) and not cloud.passing(NAMES, {"spice:pool": "default"})


def errors(caplog):
    return [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]


def test_a_missing_file_makes_all_unknown_until_it_comes(cloud, caplog):
    assert refuses_all(cloud)
    assert "is missing" in errors(caplog)[0]
    cloud.write_default(MEMBERS)
    assert cloud.passing(NAMES) == ["good"]
    os.unlink(cloud.pool_path)
    assert refuses_all(cloud)


def test_a_missing_folder_makes_all_unknown(cloud):
    os.rename(cloud.folder, cloud.folder.with_name("elsewhere"))
    assert refuses_all(cloud)


def test_unknown_may_fail_open_but_never_for_a_node_last_known_as_untrusted(cloud, option):
    option("unknown_fails_open", True)
    unknown = {"trust:trusted_host": "unknown"}
    assert cloud.passing(NAMES, unknown) == NAMES
    cloud.write_default(MEMBERS)
    assert cloud.passing(NAMES, unknown) == ["stranger"]
    cloud.clock.pass_ms(11 * MINUTE)
    assert cloud.passing(NAMES, unknown) == ["good", "stranger"]
    assert cloud.passing(NAMES) == []


def test_the_log_is_loud_but_not_for_every_request(cloud, caplog):
    for _ in range(50):
        cloud.passing(NAMES)
    assert len(errors(caplog)) == 1
    cloud.clock.pass_ms(MINUTE)
    cloud.passing(NAMES)
    assert len(errors(caplog)) == 2
    cloud.write_default(MEMBERS)
    cloud.passing(NAMES)
    cloud.clock.pass_ms(11 * MINUTE)
    cloud.passing(NAMES)
    assert "last heard" in errors(caplog)[2]
    cloud.clock.pass_ms(1000)
    cloud.passing(NAMES)
    assert len(errors(caplog)) == 3


def test_a_file_cut_at_any_byte_is_refused(cloud):
    whole = cloud.pool_bytes({"default": pool(MEMBERS), "gold": pool({})})
    poolfile.PoolFile(whole)
    for length in range(len(whole)):
        with pytest.raises(poolfile.Fault):
            poolfile.PoolFile(whole[:length])
    alive = cloud.alive_bytes()
    poolfile.Alive(alive)
    for length in range(len(alive)):
        with pytest.raises(poolfile.Fault):
            poolfile.Alive(alive[:length])


def test_a_file_with_any_byte_changed_is_refused(cloud):
    whole = cloud.pool_bytes({"default": pool(MEMBERS)})
    for position in range(len(whole)):
        for mask in (0x01, 0x20, 0x80):
            changed = bytearray(whole)
            changed[position] ^= mask
            with pytest.raises(poolfile.Fault):
                poolfile.PoolFile(bytes(changed))


def test_a_file_cut_on_disk_makes_all_unknown_and_the_next_good_one_ends_that(cloud):
    cloud.write_default(MEMBERS)
    whole = cloud.pool_path.read_bytes()
    for length in (0, 1, 50, whole.index(b"\n"), whole.index(b"\n") + 1, len(whole) // 2, len(whole) - 1):
        pool_writer.replace(cloud.pool_path, whole[:length])
        assert refuses_all(cloud)
        pool_writer.replace(cloud.pool_path, whole)
        assert cloud.passing(NAMES) == ["good"]


def resealed(whole, change):
    return pool_writer.seal(change(whole[whole.index(b"\n") + 1 :]))


@pytest.mark.parametrize(
    "change",
    [
        lambda rest: b"",
        lambda rest: rest + b"\n",
        lambda rest: rest + b"more\n",
        lambda rest: rest[:-1],
        lambda rest: rest.replace(b"bad good", b"good bad"),
        lambda rest: rest.replace(b"bad good", b"good good"),
        lambda rest: rest.replace(b"bad good", b"bad\tgood"),
        lambda rest: rest.replace(b"bad good", b"bad  good"),
        lambda rest: rest.replace(b"bad good", b" good"),
        lambda rest: rest.replace(b"bad good", b"b\xe4d good"),
        lambda rest: rest.replace(b'"nodes":2', b'"nodes":3'),
        lambda rest: rest.replace(b'"nodes":2', b'"nodes":true'),
        lambda rest: rest.replace(b'"nodes":2', b'"nodes":1e9'),
        lambda rest: rest.replace(b"\nut\n", b"\nuT\n"),
        lambda rest: rest.replace(b"\nut\n", b"\nu\n"),
        lambda rest: rest.replace(b"\nut\n", b"\nutt\n"),
        lambda rest: rest.replace(b"7fffffffffffffff", b"7ffffffffffffff"),
        lambda rest: rest.replace(b"7fffffffffffffff", b"7fffffffffffff  "),
        lambda rest: rest.replace(b"7fffffffffffffff", b"xxxxxxxxxxxxxxxx"),
        lambda rest: rest.replace(b'"enforce"', b'"lenient"'),
        lambda rest: rest.replace(b'"enforce"', b"[]"),
        lambda rest: rest.replace(b'"max_silence_ms":600000', b'"max_silence_ms":0'),
        lambda rest: rest.replace(b'"max_silence_ms":600000', b'"max_silence_ms":-1'),
        lambda rest: rest.replace(b'"max_silence_ms":600000', b'"max_silence_ms":' + b"9" * 5000),
        lambda rest: rest.replace(b'"pools":[', b'"pools":[[],'),
        lambda rest: rest.replace(b'"pools":', b'"fools":'),
        lambda rest: rest.replace(b'"boot_id"', b'"boot"'),
        lambda rest: rest.replace(b'"boottime_ms"', b'"boottime"'),
        lambda rest: rest.replace(b'"name":"default"', b'"name":7'),
        lambda rest: b"[" * 100_000 + rest,
        lambda rest: b" " * 1_100_000 + rest,
        lambda rest: b"\n" * 100_000,
    ],
)
def test_a_well_sealed_file_that_breaks_a_rule_is_refused(cloud, change):
    cloud.write_default(MEMBERS)
    whole = cloud.pool_path.read_bytes()
    changed = resealed(whole, change)
    assert changed != whole
    pool_writer.replace(cloud.pool_path, changed)
    assert refuses_all(cloud)
    pool_writer.replace(cloud.pool_path, resealed(whole, lambda rest: rest))
    assert cloud.passing(NAMES) == ["good"]


def test_a_pool_that_stands_twice_is_refused(cloud):
    cloud.write({"default": pool(MEMBERS), "defaulu": pool({})})
    whole = cloud.pool_path.read_bytes()
    pool_writer.replace(cloud.pool_path, resealed(whole, lambda rest: rest.replace(b"defaulu", b"default")))
    assert refuses_all(cloud)


@pytest.mark.parametrize("form", [0, 2, "1", None, True, 1.0])
def test_another_format_is_refused(cloud, form, caplog):
    cloud.write_default(MEMBERS)
    whole = cloud.pool_path.read_bytes()
    pool_writer.replace(cloud.pool_path, pool_writer.seal(whole[whole.index(b"\n") + 1 :], format=form))
    assert refuses_all(cloud)
    assert "does not read" in errors(caplog)[0]


def test_a_field_added_within_the_format_is_ignored(cloud):
    cloud.write_default(MEMBERS, added=["whatever"])
    assert cloud.passing(NAMES) == ["good"]


@pytest.mark.parametrize("which", ["pool", "pool.alive"])
def test_a_file_of_another_deployment_is_refused(cloud, which):
    cloud.write_default(MEMBERS)
    if which == "pool":
        pool_writer.replace(cloud.pool_path, cloud.pool_bytes({"default": pool(MEMBERS)}, deployment="other"))
    else:
        cloud.hear(deployment="other")
    assert refuses_all(cloud)


def test_without_a_deployment_in_nova_conf_nothing_is_believed(cloud, option, caplog):
    cloud.write_default(MEMBERS)
    option("deployment", None)
    assert refuses_all(cloud)
    assert "deployment is not set" in errors(caplog)[0] or "before [spice] deployment is set" in errors(caplog)[0]


@pytest.mark.parametrize("which", ["pool", "pool.alive"])
def test_a_link_is_refused(cloud, which):
    cloud.write_default(MEMBERS)
    real = cloud.folder / "real"
    os.rename(cloud.folder / which, real)
    os.symlink(real, cloud.folder / which)
    assert refuses_all(cloud)


def test_a_folder_that_is_a_link_is_refused(cloud):
    cloud.write_default(MEMBERS)
    real = cloud.folder.with_name("real")
    os.rename(cloud.folder, real)
    os.symlink(real, cloud.folder)
    assert refuses_all(cloud)


@pytest.mark.parametrize("which", ["pool", "pool.alive"])
@pytest.mark.parametrize("kind", ["folder", "fifo", "socket"])
def test_what_is_no_regular_file_is_refused_without_waiting(cloud, which, kind, monkeypatch):
    cloud.write_default(MEMBERS)
    path = cloud.folder / which
    os.unlink(path)
    if kind == "folder":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path)
    else:
        monkeypatch.chdir(cloud.folder)
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(which)
        listener.close()
    assert refuses_all(cloud)


@pytest.mark.parametrize("mode", [0o664, 0o646, 0o666])
@pytest.mark.parametrize("which", ["pool", "pool.alive"])
def test_a_file_that_others_can_write_is_refused_once_that_is_so(cloud, which, mode):
    cloud.write_default(MEMBERS)
    assert cloud.passing(NAMES) == ["good"]
    os.chmod(cloud.folder / which, mode)
    assert refuses_all(cloud)
    os.chmod(cloud.folder / which, 0o600)
    assert cloud.passing(NAMES) == ["good"]


@pytest.mark.parametrize("mode", [0o775, 0o757, 0o1777])
def test_a_folder_that_others_can_write_is_refused_by_the_next_heartbeat(cloud, mode):
    cloud.write_default(MEMBERS)
    assert cloud.passing(NAMES) == ["good"]
    os.chmod(cloud.folder, mode)
    cloud.hear()
    assert refuses_all(cloud)
    os.chmod(cloud.folder, 0o755)
    cloud.clock.pass_ms(source.RETRY_MS)
    assert cloud.passing(NAMES) == ["good"]


@pytest.mark.skipif(os.geteuid() != 0, reason="giving a file away needs root")
@pytest.mark.parametrize("which", ["", "pool", "pool.alive"])
def test_only_root_the_pool_owner_and_oneself_may_own_the_files(cloud, option, which):
    cloud.write_default(MEMBERS)
    os.chown(cloud.folder / which, 12345, -1)
    assert refuses_all(cloud)
    option("pool_owner", "12345")
    assert cloud.passing(NAMES) == ["good"]
    option("pool_owner", "daemon")
    assert refuses_all(cloud)
    os.chown(cloud.folder / which, 1, -1)
    cloud.clock.pass_ms(source.RETRY_MS)
    assert cloud.passing(NAMES) == ["good"]


def test_an_oversize_file_is_refused_unread(cloud, monkeypatch):
    cloud.write_default(MEMBERS)
    os.truncate(cloud.pool_path, poolfile.MAX_POOL_BYTES + 1)
    heartbeat = cloud.alive_path.stat().st_size
    real = source._read_bytes
    read = []
    monkeypatch.setattr(source, "_read_bytes", lambda descriptor, size: read.append(size) or real(descriptor, size))
    assert refuses_all(cloud)
    assert set(read) == {heartbeat}


def test_an_oversize_heartbeat_is_refused(cloud):
    cloud.write_default(MEMBERS)
    cloud.hear(padding="x" * poolfile.MAX_ALIVE_BYTES)
    assert refuses_all(cloud)


@pytest.mark.parametrize("which", ["pool", "pool.alive"])
def test_a_file_of_another_boot_is_expired(cloud, which, caplog):
    cloud.write_default(MEMBERS)
    if which == "pool":
        pool_writer.replace(cloud.pool_path, cloud.pool_bytes({"default": pool(MEMBERS)}, boot_id="boot-0"))
    else:
        cloud.hear(boot_id="boot-0")
    assert refuses_all(cloud)
    assert "another boot" in errors(caplog)[0]


def test_silence_makes_all_unknown_after_max_silence_and_not_before(cloud):
    cloud.write_default(MEMBERS)
    cloud.clock.pass_ms(10 * MINUTE)
    assert cloud.passing(NAMES) == ["good"]
    cloud.clock.pass_ms(1)
    assert refuses_all(cloud)
    cloud.hear()
    assert cloud.passing(NAMES) == ["good"]


def test_silence_is_each_pools_own(cloud):
    cloud.write({"default": pool(MEMBERS), "gold": pool(MEMBERS, max_silence_ms=MINUTE)})
    cloud.clock.pass_ms(2 * MINUTE)
    assert cloud.passing(NAMES) == ["good"]
    assert cloud.passing(NAMES, {"spice:pool": "gold"}) == []


def test_silence_counts_on_the_clock_that_shows_more_of_it(cloud):
    cloud.write_default(MEMBERS)
    cloud.clock.utc -= 60 * MINUTE
    cloud.clock.boottime += 10 * MINUTE + 1
    assert refuses_all(cloud)
    cloud.clock.boottime -= 10 * MINUTE
    assert cloud.passing(NAMES) == ["good"]
    cloud.clock.utc = START + 10 * MINUTE + 1
    assert refuses_all(cloud)


def test_without_a_heartbeat_all_are_unknown(cloud):
    cloud.write_default(MEMBERS)
    os.unlink(cloud.alive_path)
    assert refuses_all(cloud)


@pytest.mark.parametrize(
    "heard, believed",
    [((5, 7), True), ((5, 6), True), ((4, 99), True), ((5, 8), False), ((6, 0), False)],
)
def test_a_heartbeat_counts_only_for_a_pool_not_older_than_it(cloud, heard, believed):
    cloud.write_default(MEMBERS, epoch=5, version=7)
    cloud.hear(epoch=heard[0], version=heard[1])
    assert cloud.passing(NAMES) == (["good"] if believed else [])


def test_in_observe_silence_lets_pass_because_the_mode_is_known(cloud):
    cloud.write({"default": pool(MEMBERS, mode="observe")})
    cloud.clock.pass_ms(11 * MINUTE)
    assert cloud.passing(NAMES) == NAMES
    os.unlink(cloud.pool_path)
    assert cloud.passing(NAMES) == []


def test_an_unchanged_file_is_not_opened_again(cloud, monkeypatch):
    cloud.write_default(MEMBERS)
    assert cloud.passing(NAMES) == ["good"]
    monkeypatch.setattr(source.os, "open", lambda *_, **__: pytest.fail("it was opened"))
    looked_at = []
    real = os.stat
    monkeypatch.setattr(source.os, "stat", lambda path, **how: looked_at.append(path) or real(path, **how))
    assert cloud.passing(NAMES) == ["good"]
    assert sorted(looked_at) == [str(cloud.pool_path), str(cloud.alive_path)]


def test_a_heartbeat_alone_does_not_read_the_pool_again(cloud, monkeypatch):
    cloud.write_default(MEMBERS)
    assert cloud.passing(NAMES) == ["good"]
    monkeypatch.setattr(source, "PoolFile", lambda *_: pytest.fail("it was parsed"))
    cloud.hear()
    assert cloud.passing(NAMES) == ["good"]


def test_a_refused_file_is_not_read_for_every_request(cloud, monkeypatch):
    cloud.write_default(MEMBERS)
    pool_writer.replace(cloud.pool_path, b"damaged\n")
    assert refuses_all(cloud)
    monkeypatch.setattr(source.os, "open", lambda *_, **__: pytest.fail("it was opened"))
    assert refuses_all(cloud)


def test_a_pool_replaced_between_the_look_and_the_reading_is_seen_whole(cloud, monkeypatch):
    cloud.write_default(MEMBERS)
    assert cloud.passing(NAMES) == ["good"]
    real = source._read_bytes
    replacements = [{"bad": ("t", LATER)}, {"stranger": ("t", LATER)}]

    def read_and_replace(descriptor, size):
        content = real(descriptor, size)
        if size > 300 and replacements:
            cloud.write_default(replacements.pop(0))
        return content

    monkeypatch.setattr(source, "_read_bytes", read_and_replace)
    cloud.write_default({"good": ("t", LATER)})
    # Each request reads one whole file, and the next sees that it was replaced meanwhile.
    assert cloud.passing(NAMES) == ["good"]
    assert cloud.passing(NAMES) == ["bad"]
    assert cloud.passing(NAMES) == ["stranger"]


def test_a_pool_replaced_while_a_request_is_judged_does_not_mix_into_it(cloud, monkeypatch):
    cloud.write_default(MEMBERS)
    real = spice_filter._report
    monkeypatch.setattr(
        spice_filter, "_report", lambda judgement: cloud.write_default({"bad": ("t", LATER)}) or real(judgement)
    )
    assert cloud.passing(NAMES) == ["good"]
    assert cloud.passing(NAMES) == ["bad"]


def test_what_expires_while_the_file_is_read_has_expired(cloud, monkeypatch):
    real = source._read_bytes

    def slowly(descriptor, size):
        cloud.clock.pass_ms(1000)
        return real(descriptor, size)

    monkeypatch.setattr(source, "_read_bytes", slowly)
    cloud.write_default({"good": ("t", START + 2000), "late": ("t", START + 2001)})
    assert cloud.passing(["good", "late"]) == ["late"]


@pytest.mark.parametrize("grown", [b"more", None])
def test_a_file_written_in_place_while_it_is_read_is_refused(cloud, monkeypatch, grown):
    cloud.write_default(MEMBERS)
    real = os.read
    done = []

    def read(descriptor, size):
        if size > 300 and not done:
            done.append(True)
            if grown:
                with open(cloud.pool_path, "ab") as file:
                    file.write(grown)
            else:
                os.truncate(cloud.pool_path, 100)
        return real(descriptor, size)

    monkeypatch.setattr(source.os, "read", read)
    assert cloud.passing(NAMES) == []


def test_the_folder_can_be_changed_in_the_options(cloud, option, tmp_path):
    cloud.write_default(MEMBERS)
    other = tmp_path / "other"
    other.mkdir(mode=0o755)
    option("pool_dir", str(other))
    assert refuses_all(cloud)
    option("pool_dir", str(cloud.folder))
    assert cloud.passing(NAMES) == ["good"]
    option("pool_dir", "a\0b")
    assert refuses_all(cloud)


def test_the_real_clock_counts(cloud, monkeypatch):
    from spice_nova.clock import SystemClock

    monkeypatch.setattr(runtime, "clock", SystemClock())
    fresh = {"good": ("t", pool_writer.utc_ms() + MINUTE), "old": ("t", pool_writer.utc_ms() - 1)}
    pool_writer.replace(cloud.pool_path, pool_writer.pool_bytes({"default": pool(fresh)}))
    pool_writer.replace(cloud.alive_path, pool_writer.alive_bytes())
    assert cloud.passing(["good", "old"], TRUSTED) == ["good"]
