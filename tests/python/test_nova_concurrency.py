"""Many threads, forked workers and eventlet: as nova-scheduler may run the filter."""

import os
import subprocess
import sys
import threading
import traceback

import pool_writer
from nova_support import MINUTE, ROOT, START, TRUSTED, host_states, pool, request_spec
from spice_nova import runtime

NAMES = [f"node-{number:03d}" for number in range(300)]
EVEN = {name: ("t", START + MINUTE) if number % 2 == 0 else ("u", None) for number, name in enumerate(NAMES)}
ODD = {name: ("t", START + MINUTE) if number % 2 else ("-", None) for number, name in enumerate(NAMES)}


def test_threads_see_one_whole_file_each_while_it_is_replaced(cloud):
    cloud.write_default(EVEN)
    hosts, request = host_states(NAMES), request_spec(TRUSTED)
    allowed = {tuple(NAMES[::2]), tuple(NAMES[1::2])}
    seen, failures = set(), []
    stop = threading.Event()
    ready = threading.Barrier(9)

    def ask():
        ready.wait()
        while not stop.is_set():
            answer = tuple(host.nodename for host in cloud.filter.filter_all(hosts, request))
            seen.add(answer)
            if answer not in allowed:
                failures.append(answer)

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    ready.wait()
    for version in range(2, 200):
        cloud.write_default(ODD if version % 2 else EVEN, version=version)
    stop.set()
    for thread in threads:
        thread.join()
    assert not failures
    assert seen == allowed


def test_threads_that_come_together_read_the_file_once(cloud, monkeypatch):
    from spice_nova import source

    cloud.write_default(EVEN)
    parsed = []
    real = source.PoolFile
    monkeypatch.setattr(source, "PoolFile", lambda *args: parsed.append(True) or real(*args))
    ready = threading.Barrier(8)
    answers = []

    def ask():
        ready.wait()
        answers.append(cloud.passing(NAMES))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [NAMES[::2]] * 8
    assert len(parsed) == 1


def test_a_request_that_needs_no_reading_does_not_wait_for_one_that_reads(cloud):
    cloud.write_default(EVEN)
    assert cloud.passing(NAMES) == NAMES[::2]
    with runtime.pool_source()._lock:
        assert cloud.passing(NAMES) == NAMES[::2]


def in_child(action):
    """Runs `action` in a forked child; True if it returned true."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            status = 0 if action() else 2
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_workers_forked_from_the_master_judge_for_themselves(cloud):
    # As nova does: built in the master, asked in the children.
    cloud.write_default(EVEN)
    assert in_child(lambda: cloud.passing(NAMES) == NAMES[::2])
    assert cloud.passing(NAMES) == NAMES[::2]

    def sees_the_next():
        cloud.write_default(ODD, version=2)
        return cloud.passing(NAMES) == NAMES[1::2]

    assert in_child(sees_the_next)
    assert cloud.passing(NAMES) == NAMES[1::2]


def test_a_fork_while_another_thread_reads_leaves_the_child_able_to_read(cloud):
    cloud.write_default(EVEN)
    assert cloud.passing(NAMES) == NAMES[::2]
    held, release = threading.Event(), threading.Event()

    def hold():
        with runtime.pool_source()._lock:
            held.set()
            release.wait()

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait()
    cloud.write_default(ODD, version=2)
    try:
        assert in_child(lambda: cloud.passing(NAMES) == NAMES[1::2])
    finally:
        release.set()
        thread.join()


EVENTLET = """
import eventlet
eventlet.monkey_patch()
import sys
sys.path[:0] = sys.argv[1:3]
from nova_support import host_states, request_spec, TRUSTED
from spice_nova import runtime
from spice_nova.filter import TrustedFilterSPICE
runtime.CONF.set_override("pool_dir", sys.argv[3], group="spice")
runtime.CONF.set_override("deployment", "test", group="spice")
judge = TrustedFilterSPICE()
pool = eventlet.GreenPool()
answers = list(pool.imap(
    lambda _: [host.nodename for host in judge.filter_all(host_states(["a", "b"]), request_spec(TRUSTED))], range(50)))
assert answers == [["a"]] * 50, answers
print("judged under eventlet")
"""


def test_it_works_under_eventlet(cloud):
    expiry = pool_writer.utc_ms() + MINUTE
    pool_writer.replace(cloud.pool_path, pool_writer.pool_bytes({"default": pool({"a": ("t", expiry)})}))
    pool_writer.replace(cloud.alive_path, pool_writer.alive_bytes())
    arguments = [str(ROOT / "tests" / "python"), str(ROOT / "plugins" / "nova"), str(cloud.folder)]
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", EVENTLET, *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "OS_NOVA_DISABLE_EVENTLET_PATCHING": "false"},
    )
    assert "judged under eventlet" in done.stdout, done.stderr


IMPORTED = """
import sys
sys.path[:0] = sys.argv[1:2]
before = set(sys.modules)
import spice_nova.validators
assert "nova.scheduler.filters" not in sys.modules, "nova-api would load the scheduler"
import spice_nova
spice_nova.TrustedFilterSPICE, spice_nova.TrustWeigherSPICE
assert "eventlet" not in {name for name in set(sys.modules) - before if name.startswith("spice")}
import threading
assert threading.active_count() == 1, threading.enumerate()
try:
    spice_nova.Nothing
except AttributeError:
    print("imported")
"""


def test_importing_starts_no_thread_and_loads_no_more_than_asked():
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", IMPORTED, str(ROOT / "plugins" / "nova")],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert "imported" in done.stdout, done.stderr
