"""Make ``.venv`` ready for a target of the Makefile: ``python3 scripts/install.py serve|test|slow|check|bench|docs``.

Standard library only: it runs before anything is installed. What is ready is left alone; what an earlier run left half
done is made anew. No step changes the machine, save one: the tests drive a real browser, nginx, Redis and PostgreSQL, and
where these are missing and we may (as root, or by sudo without a question) Debian's packages are installed.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import clients
import kotlin
import stores

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
STAMP = VENV / ".ready"
"""Written last: what was installed, from which files, for which interpreter."""
UNFINISHED = VENV / ".unfinished"
"""There while we install, so that a kill at any moment is seen by the next run."""

EXTRAS = {
    "serve": frozenset[str](),
    "test": frozenset({"test", "docs"}),
    "slow": frozenset({"test", "docs"}),
    "check": frozenset({"test", "dev", "docs"}),
    "bench": frozenset({"bench"}),
    "docs": frozenset({"docs"}),
}
BROWSERS = (
    *("chromium", "chromium-browser", "google-chrome", "google-chrome-stable"),
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
)

# Prints the version of libvips, and whether it is the one that the pyvips-binary wheel brought: the bytes of the module that
# was imported are those that the wheel lists.
LIBVIPS = """
import base64, hashlib, importlib.metadata as metadata, pathlib
import pyvips, _libvips
digest = base64.urlsafe_b64encode(hashlib.sha256(pathlib.Path(_libvips.__file__).read_bytes()).digest()).decode().rstrip("=")
wheels = {file.hash.value for file in metadata.files("pyvips-binary") if file.hash and file.name.startswith("_libvips.")}
print(*(pyvips.version(part) for part in range(3)), int(pyvips.API_mode and digest in wheels))
"""
LIBVIPS_FLOOR = (8, 18)


class Failure(Exception):
    """The set-up cannot go on; the text says what to do."""


def main(target: str) -> None:
    """Leave ``.venv`` ready for *target*, and for what it was ready for before."""
    os.chdir(ROOT)
    wanted = EXTRAS[target]
    if not ready(wanted):
        with alone():
            if not ready(wanted):
                install(wanted | (installed() or frozenset()))
    if "test" in wanted:
        provide_packages()
    if target in {"test", "slow"}:
        provide_stores()
        provide_clients()
    if target == "slow":
        provide_for_slow()


def ready(wanted: frozenset[str]) -> bool:
    """Whether there is nothing to do."""
    extras = installed()
    return extras is not None and wanted <= extras


def installed() -> frozenset[str] | None:
    """The extras that are installed, or None if what is in ``.venv`` is not what the files of this clone ask for."""
    try:
        state, *extras = STAMP.read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    return frozenset(extras) if state == fingerprint() else None


def fingerprint() -> str:
    """Changes with the versions asked for, the place of the clone (scripts in ``.venv`` name it), and the interpreter."""
    parts = [(ROOT / name).read_bytes() for name in ("constraints.txt", "pyproject.toml", "scripts/install.py")]
    parts += [os.fsencode(ROOT), os.fsencode(os.path.realpath(PYTHON))]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()


@contextmanager
def alone() -> Iterator[None]:
    """Wait until no other set-up works on this clone."""
    folder = os.open(ROOT, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)


def install(extras: frozenset[str]) -> None:
    """Make or mend ``.venv``; a newcomer sees one line for each step."""
    if UNFINISHED.exists() or (VENV.exists() and not usable()):
        shutil.rmtree(VENV)
    VENV.mkdir(exist_ok=True)
    UNFINISHED.touch()
    STAMP.unlink(missing_ok=True)
    if not usable():
        say(f"Making .venv with Python {sys.version.split()[0]}")
        make_environment()
    say("Installing the service" + (" and what its tests and docs need" if extras else "") + " (a minute, this once)")
    # pyvips has no wheel. Built where libvips-dev is, it would bring a module for the system's libvips and fight with the one of
    # pyvips-binary; so it is built where no libvips is to be found, not from a cache, and before the wheel that brings the module.
    pip("install", "--no-cache-dir", "pyvips")
    pip("install", "--editable", ".[" + ",".join(sorted(extras)) + "]" if extras else ".")
    if not libvips_is_the_wheels():
        say("Another libvips got in the way of the wheel's: installing that part again")
        pip("uninstall", "--yes", "pyvips", "pyvips-binary")
        pip("install", "--no-cache-dir", "--no-deps", "pyvips")
        pip("install", "--no-deps", "pyvips-binary")
        if not libvips_is_the_wheels():
            raise Failure("pyvips does not run on the libvips that its wheel brought: unset LD_LIBRARY_PATH, then run make again.")
    fresh = STAMP.with_suffix(".new")
    fresh.write_text("\n".join([fingerprint(), *sorted(extras)]), encoding="utf-8")
    fresh.replace(STAMP)
    UNFINISHED.unlink()


def usable() -> bool:
    """Whether ``.venv`` has an interpreter that runs, is new enough, and has pip."""
    code = "import sys, pip; sys.exit(sys.version_info < (3, 11) or sys.prefix == sys.base_prefix)"
    return PYTHON.exists() and succeeds(PYTHON, "-I", "-c", code)


def make_environment() -> None:
    """A virtual environment with pip, also where Debian's python3-venv, which brings pip, is not installed."""
    if find_spec("ensurepip") is not None:
        run(sys.executable, "-I", "-m", "venv", VENV)
        return
    run(sys.executable, "-I", "-m", "venv", "--without-pip", VENV)
    if shutil.which("apt-get") is None:
        raise Failure(f"{sys.executable} lacks ensurepip: install the package of your system that brings it, then run make again.")
    with tempfile.TemporaryDirectory() as folder:
        wheel = debians_pip(Path(folder))
        run(PYTHON, wheel / "pip", "install", "--quiet", "--no-index", wheel)


def debians_pip(folder: Path) -> Path:
    """pip's wheel, out of Debian's package of it. Nothing is installed on the machine, so no rights are needed."""
    download = ["download", "python3-pip-whl"]
    if not succeeds("apt-get", "-q", *download, cwd=folder):  # fresh images have no package lists: fetch them to a place of our own
        for name in ("lists", "cache"):
            (folder / name / "partial").mkdir(parents=True)
        own = (f"Dir::State::Lists={folder}/lists", f"Dir::Cache={folder}/cache", "APT::Sandbox::User=root")
        apt = ["apt-get", "-q", *(part for option in own for part in ("-o", option))]
        run(*apt, "update", cwd=folder, quiet=True)
        run(*apt, *download, cwd=folder, quiet=True)
    run("dpkg-deb", "-x", *folder.glob("*.deb"), folder / "root")
    return next((folder / "root" / "usr" / "share" / "python-wheels").glob("pip-*.whl"))


def pip(*arguments: str) -> None:
    """Run the environment's pip under our constraints; what the user's own settings would bend is put straight."""
    bending = {"PIP_USER", "PIP_TARGET", "PIP_PREFIX", "PIP_REQUIRE_HASHES", "PIP_NO_BUILD_ISOLATION"}
    environ = {name: value for name, value in os.environ.items() if name not in bending}
    # Relative, since pip splits these at spaces. The second is how newer versions of pip constrain what builds need.
    environ |= {"PIP_CONSTRAINT": "constraints.txt", "PIP_BUILD_CONSTRAINT": "constraints.txt", "PKG_CONFIG": "false"}
    run(PYTHON, "-I", "-m", "pip", "--quiet", "--no-input", "--disable-pip-version-check", *arguments, environ=environ)


def libvips_is_the_wheels() -> bool:
    """Whether pyvips runs on the libvips that its wheel brought, and that one is new enough."""
    answer = subprocess.run([PYTHON, "-I", "-c", LIBVIPS], check=False, capture_output=True, text=True)
    if answer.returncode != 0:
        return False
    *version, ours = (int(word) for word in answer.stdout.split())
    return bool(ours) and tuple(version) >= LIBVIPS_FLOOR


def provide_packages() -> None:
    """Chromium, nginx, HAProxy, Redis, PostgreSQL, clamd, Node and what else tests run: installed where we may, a must in CI."""
    packages = missing_packages()
    if not packages:
        return
    rights = [] if os.geteuid() == 0 else ["sudo", "-n"]
    if shutil.which("apt-get") and (not rights or (shutil.which("sudo") and succeeds("sudo", "-n", "true"))):
        say(f"Installing Debian's {' and '.join(packages)} for the tests (once)")
        apt = [*rights, "env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-q"]
        install_them = [*apt, "install", "--yes", "--no-install-recommends", *packages]
        if not succeeds(*install_them) and succeeds(*apt, "update"):
            succeeds(*install_them)
        packages = missing_packages()
    if packages:
        advice = f"Some tests need what is not here: install your system's {' and '.join(packages)}."
        if os.environ.get("CI") == "true":
            raise Failure(advice)
        say(f"{advice} Until then they are skipped.")


def provide_stores() -> None:
    """versitygw, MinIO with its client and Helm, for the tests that run them; in CI a must."""
    for program in stores.missing():
        provide(program)


def provide(program: stores.Program) -> None:
    """A program in Go for the tests that run it: built where Go is, else said."""
    if shutil.which("go"):
        say(f"Building {program.name} for the tests (some minutes, once; kept in {stores.folder()})")
    if (failure := stores.build(program)) is None:
        return
    advice = f"The tests with a real {program.name} need what is not here: {failure}. Install Go 1.25 or newer."
    if os.environ.get("CI") == "true":
        raise Failure(advice)
    say(f"{advice} Until then they are skipped.")


def provide_clients() -> None:
    """tus-js-client and Uppy, for the tests with real clients; in CI a must."""
    if not clients.modules().exists():
        say(f"Installing clients from npm for the tests of resumable uploads (once; kept in {clients.folder()})")
    if (failure := clients.install()) is None:
        return
    advice = f"The tests with tus-js-client and Uppy need what is not here: {failure}."
    if os.environ.get("CI") == "true":
        raise Failure(advice)
    say(f"{advice} Until then they are skipped.")


def provide_for_slow() -> None:
    """Java, Maven and by it the Kotlin compiler, for the examples of the docs; mmdebstrap for the image; Traefik; in CI a must."""
    programs = (("java", "default-jre-headless"), ("mvn", "maven"), ("mmdebstrap", "mmdebstrap"))
    missing = [package for program, package in programs if shutil.which(program) is None]
    if missing and os.geteuid() == 0 and shutil.which("apt-get"):
        say(f"Installing Debian's {' and '.join(missing)} for the tests that take longer (once)")
        succeeds("apt-get", "-q", "install", "--yes", "--no-install-recommends", *missing)
    if not os.access(stores.TRAEFIK.path, os.X_OK):
        provide(stores.TRAEFIK)
    if not kotlin.folder().exists():
        say(f"Fetching the Kotlin compiler for the tests of the docs' examples (once; kept in {kotlin.folder()})")
    if (failure := kotlin.install()) is None:
        return
    advice = f"The tests of Kotlin's examples need what is not here: {failure}."
    if os.environ.get("CI") == "true":
        raise Failure(advice)
    say(f"{advice} Until then they are skipped.")


def missing_packages() -> list[str]:
    """Debian's packages that tests lack; playwright's driver is a node that wants libatomic."""
    missing = [] if any(shutil.which(name) for name in BROWSERS) else ["chromium"]
    missing += [] if shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin") else ["nginx-light"]
    missing += [] if shutil.which("haproxy", path=f"{os.environ.get('PATH', '')}:/usr/sbin") else ["haproxy"]
    missing += [] if shutil.which("varnishd", path=f"{os.environ.get('PATH', '')}:/usr/sbin") else ["varnish"]
    missing += [] if shutil.which("redis-server") else ["redis-server"]
    missing += [] if shutil.which("prometheus") else ["prometheus"]
    missing += (
        [] if any(shutil.which(name) for name in ("alertmanager", "prometheus-alertmanager")) else ["prometheus-alertmanager"]
    )
    missing += [] if shutil.which("postgres") or any(Path("/usr/lib/postgresql").glob("*/bin/postgres")) else ["postgresql"]
    missing += [] if shutil.which("clamd", path=f"{os.environ.get('PATH', '')}:/usr/sbin") else ["clamav-daemon"]
    missing += [] if shutil.which("nc") else ["netcat-openbsd"]
    missing += [] if shutil.which("vipsthumbnail") else ["libvips-tools"]
    missing += [] if shutil.which("ffmpeg") else ["ffmpeg"]
    missing += [] if shutil.which("bwrap") or sys.platform != "linux" else ["bubblewrap"]
    missing += [] if shutil.which("node") else ["nodejs"]
    missing += [] if shutil.which("npm") else ["npm"]
    return missing if succeeds(PYTHON, "-I", "-m", "playwright", "--version") else [*missing, "libatomic1"]


def succeeds(*command: str | Path, cwd: Path | None = None) -> bool:
    """Whether *command* ends well; it says nothing."""
    return subprocess.run(command, cwd=cwd, check=False, stdin=subprocess.DEVNULL, capture_output=True).returncode == 0


def run(*command: str | Path, cwd: Path | None = None, environ: dict[str, str] | None = None, quiet: bool = False) -> None:
    """Run *command*, whose errors the user sees; raise Failure if it does not end well."""
    output = subprocess.DEVNULL if quiet else None
    if subprocess.run(command, cwd=cwd, env=environ, check=False, stdin=subprocess.DEVNULL, stdout=output).returncode != 0:
        words = " ".join([Path(command[0]).name, *(str(word) for word in command[1:])])
        raise Failure(f"The set-up stopped at `{words}`. Run make again to begin it anew.")


def say(text: str) -> None:
    """One line for the user, at once."""
    print(text, flush=True)


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except Failure as failure:
        sys.exit(str(failure))
    except KeyboardInterrupt:
        sys.exit("The set-up was stopped; the next run begins it anew.")
