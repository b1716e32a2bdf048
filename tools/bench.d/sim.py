"""The engine under a scripted world: real roles, virtual time, and a seed that chooses every fault.

Tells thousands of stories (src/sim) in the release profile, and fails where a rule was broken. With --mutations it
shows that it can: in a copy of the sources each patch of tools/bench.d/sim-mutations breaks one rule on purpose, and
some seed has to find it; in the dev profile, which is built sooner.
"""

import argparse
import os
import pathlib
import re
import shutil
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tools" / "lib")]

import surroundings  # noqa: E402

MUTATIONS = ROOT / "tools" / "bench.d" / "sim-mutations"
STORIES = "sim::tests::many_stories"
TOLD = re.compile(r"^(\d+) stories of seeds .*$", re.MULTILINE)
BROKEN = re.compile(r"^seed \d+: .*$", re.MULTILINE)


def verdict(holds):
    return "PASS" if holds else "MISS"


def tell(sources, target, seeds, profile):
    """Builds the tests of `sources` and has the stories told: whether all rules held, and what was said."""
    environment = surroundings.environment() | {
        "SPICE_SIM_SEEDS": f"{seeds.start}..{seeds.stop}",
        "CARGO_TARGET_DIR": str(target),
    }
    command = ["cargo", "test", "--locked", *profile, "--lib"]
    built = subprocess.run([*command, "--no-run"], cwd=sources, env=environment, stdout=subprocess.DEVNULL)
    if built.returncode:
        raise SystemExit("tools/bench: it does not compile")
    done = subprocess.run(
        [*command, STORIES, "--", "--nocapture"],
        cwd=sources,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if not TOLD.search(done.stdout):
        raise SystemExit(f"tools/bench: no story was told\n{done.stdout[-4000:]}")
    return done.returncode == 0, done.stdout


def stories(target, seeds):
    holds, said = tell(ROOT, target, seeds, ["--release"])
    print(TOLD.search(said).group())
    if not holds:
        print("\n".join(BROKEN.findall(said)) or said[-4000:])
        print("one of them again: SPICE_SIM_SEED=n cargo test --lib sim::tests::many -- --nocapture")
    print(f"{verdict(holds)}  no story breaks a rule")
    return holds


def mutations(target, seeds, chosen):
    """What breaks a rule is found by some seed."""
    patches = [patch for patch in sorted(MUTATIONS.glob("*.patch")) if not chosen or patch.stem in chosen]
    if not patches:
        raise SystemExit(
            f"tools/bench: no such mutation; there are {', '.join(p.stem for p in sorted(MUTATIONS.glob('*')))}"
        )
    caught = []
    # Always at the same place, so that what earlier runs have built there is replaced.
    copy = target / "sim-mutations"
    files = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, stdout=subprocess.PIPE).stdout
    names = [name for name in files.decode().split("\0") if (ROOT / name).is_file() and name]
    for patch in patches:
        shutil.rmtree(copy, ignore_errors=True)
        copy.mkdir(parents=True)
        subprocess.run(["cp", "--parents", "-t", copy, *names], cwd=ROOT, check=True)
        subprocess.run(["patch", "--quiet", "--strip=1", "--input", patch], cwd=copy, check=True)
        holds, said = tell(copy, target, seeds, [])
        found = BROKEN.search(said)
        caught.append(not holds)
        print(f"{verdict(not holds)}  {patch.stem}: {found.group()[:150] if found else 'not found'}", flush=True)
    shutil.rmtree(copy, ignore_errors=True)
    return all(caught)


def main():
    parser = argparse.ArgumentParser(
        prog="tools/bench sim", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, metavar="N", help="how many stories (default: 2000; 100 with --mutations)")
    parser.add_argument("--first", type=int, default=0, metavar="SEED", help="the first seed (default: %(default)s)")
    parser.add_argument(
        "--mutations", nargs="*", metavar="NAME", help="break rules on purpose; all of them, or those named"
    )
    arguments = parser.parse_args()
    target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    count = arguments.seeds or (2000 if arguments.mutations is None else 100)
    seeds = range(arguments.first, arguments.first + count)
    holds = stories(target, seeds) if arguments.mutations is None else mutations(target, seeds, arguments.mutations)
    return 0 if holds else 1


if __name__ == "__main__":
    sys.exit(main())
