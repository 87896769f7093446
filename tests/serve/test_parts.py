"""The service's parts by themselves: settings, rates, the store, expiry, the command that is shown."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any, get_args

import pytest

from ddfm.errors import InputError
from ddfm.formats.radiometric import Overrides
from ddfm.fusion.options import STRETCHES, Options
from ddfm.likelihoods.forms import FORMS
from ddfm.likelihoods.tasks import TASKS
from ddfm.pictures.palettes import PALETTES
from ddfm.priors.loading import bundled_priors
from ddfm.registration.models import REGISTRATIONS
from ddfm.sampling.schedulers import SCHEDULERS
from ddfm.serve import requests
from ddfm.serve.folders import Folders, put
from ddfm.serve.guard import Rates
from ddfm.serve.problems import Problem, for_clients
from ddfm.serve.requests import FusionOptions, command_line, parse_options
from ddfm.serve.service import Service
from ddfm.serve.settings import Settings
from ddfm.serve.store import MOST_DEATHS, QueueFullError, Store
from ddfm.serve.supervisor import Supervisor, without_token
from ddfm.thermal.options import ThermalOptions
from tests.conftest import Command, check_refusals

TOKEN = "a-token-for-the-tests"


def test_the_web_process_needs_no_torch() -> None:
    code = "import sys, ddfm.serve.app, ddfm.serve.listening; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_options_are_those_of_a_fusion() -> None:
    def choices(name: str) -> set[Any]:
        found = []
        for part in (
            FusionOptions.model_fields[name].annotation,
            *get_args(FusionOptions.model_fields[name].annotation),
        ):
            found += [value for value in get_args(part) if isinstance(value, str)]
        return set(found)

    assert choices("task") == {"auto", *TASKS}
    assert choices("form") == set(FORMS)
    assert choices("scheduler") == set(SCHEDULERS)
    assert choices("stretch") == set(STRETCHES)
    assert choices("register_") == set(REGISTRATIONS)
    assert requests.bundled_priors() == bundled_priors()
    assert choices("palette") == set(PALETTES)
    others = {"prior", "range", "temperatures", *requests.THERMAL}
    usual = FusionOptions.model_validate({}).model_dump(by_alias=True, exclude=others)
    assert usual == {name: getattr(Options(), name) for name in usual}
    # What the command has and the service has not: what concerns the machine, functions, and further files.
    missing = {"device", "dtype", "backend", "tile", "sampler", "sources", "masks"}
    assert {field.name for field in fields(Options)} - set(usual) == missing
    thermal = {field.name for field in fields(ThermalOptions)} - {"overrides"}
    assert set(requests.THERMAL) == thermal | {field.name for field in fields(Overrides)}
    for name, path in requests.OUTPUTS.items():
        assert Path(path).stem == name.replace("_", "-")


def test_the_command_that_is_shown_has_the_same_options(
    monkeypatch: pytest.MonkeyPatch, ddfm: Command
) -> None:
    given = parse_options(
        '{"task": "medical", "steps": 3, "noise": [1.5, 0], "deblur": [0, 2], "deghost": "off",'
        ' "balance": 0.25, "register": "affine",'
        ' "resize": true, "colour_from": 2, "uncertainty": true, "source_map": true}'
    )
    shown = command_line(given, ["a b.png", "-c.png"], "fused.png", 4)
    environment, *words = shlex.split(shown)
    assert environment == "OMP_NUM_THREADS=4"
    assert words[:4] == ["ddfm", "fuse", "a b.png", "./-c.png"]
    seen: dict[str, Any] = {}
    monkeypatch.setattr("ddfm.commands.fuse.kind_of", lambda sources: "files")
    monkeypatch.setattr(
        "ddfm.commands.fuse.run_files", lambda paths, outputs, options, *rest: seen.update(options=options)
    )
    assert ddfm(*words[1:]).returncode == 0
    wanted = given.stored()
    for name, value in wanted.items():
        assert getattr(seen["options"], name) == value, name


def test_options_that_are_none_are_problems() -> None:
    for text in ('{"steps": -1}', '{"balance": NaN}', "[", '{"device": "cuda"}', '{"prior": "../x"}'):
        with pytest.raises(Problem) as refused:
            parse_options(text)
        assert refused.value.status_code == 422
        assert refused.value.detail.startswith("options: ")


def test_errors_lose_paths_and_options_of_the_operator() -> None:
    path = Path("/srv/data/jobs/1/source-1.png")
    message = f"{path}: declares 9 pixels, more than 5; ddfm --max-pixels 9 COMMAND ... allows them"
    assert for_clients(message, {path: "mine.png"}) == "mine.png: declares 9 pixels, more than 5"
    assert for_clients("sizes differ (--resize resamples)", {}) == "sizes differ (resize resamples)"


def test_no_other_address_without_a_token(ddfm: Command, tmp_path: Path) -> None:
    data = ("--data", tmp_path / "data")
    check_refusals(
        ddfm,
        {
            ("serve", "--host", "0.0.0.0", *data): "set --token or DDFM_TOKEN",
            ("serve", "--host", "::", *data): "set --token or DDFM_TOKEN",
            ("serve", "--host", "example.org", *data): "set --token or DDFM_TOKEN",
            ("serve", "--token", "short", *data): "16 or more are needed",
            ("serve", "--workers", "0", *data): "must be 1 or more",
            ("serve", "--port", "70000", *data): "cannot be listened on",
        },
        tmp_path,
    )
    assert Settings(data=tmp_path, host="0.0.0.0", token=TOKEN).known_hosts is None
    assert "localhost" in (Settings(data=tmp_path, host="::1").known_hosts or ())


def test_a_missing_extra_is_named(ddfm: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ddfm.serve.app", None)
    check_refusals(ddfm, {("serve", "--data", tmp_path / "data"): "pip install 'ddfm[serve]'"}, tmp_path)


def test_two_servers_do_not_share_a_folder(tmp_path: Path) -> None:
    first = Folders(tmp_path)
    lock = first.lock()
    with pytest.raises(InputError, match="another service uses this folder"):
        Folders(tmp_path).lock()
    os.close(lock)
    os.close(Folders(tmp_path).lock())


def test_workers_never_see_the_token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings(data=tmp_path, host="0.0.0.0", token=TOKEN, names=("example.org",))
    assert TOKEN not in settings.as_json()
    assert Settings.from_json(settings.as_json()).names == ("example.org",)
    monkeypatch.setenv("DDFM_TOKEN", TOKEN)
    assert TOKEN not in str(without_token())


def test_rates_fill_again_with_time() -> None:
    now = [0.0]
    rates = Rates(2, 3, lambda: now[0])
    assert [rates.wait("a") for _ in range(4)] == [0, 0, 0, 0.5]
    assert rates.wait("b") == 0  # another client has a bucket of its own
    now[0] = 0.5
    assert rates.wait("a") == 0
    assert rates.wait("a") > 0
    assert Rates(0, 1).wait("a") == 0


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "jobs.sqlite3")


def test_a_job_is_claimed_once_and_in_turn(store: Store) -> None:
    ids = [store.add("fusion", {}).id for _ in range(3)]
    assert [store.place(store.need(id_)) for id_ in ids] == [1, 2, 3]
    taken = [store.claim(f"worker-{k}", "main")[0].id for k in range(3)]
    assert taken == ids
    assert store.claim("worker-4", "main") == []
    store.close()


def test_jobs_that_are_alike_are_claimed_together(store: Store) -> None:
    kinds = ["x", "y", "x", "", "x", "x"]
    ids = [store.add("fusion", {}, alike=kind).id for kind in kinds]
    assert [job.id for job in store.claim("w", "main", 3)] == [ids[0], ids[2], ids[4]]
    assert [job.id for job in store.claim("w", "main", 3)] == [ids[1]]
    assert [job.id for job in store.claim("w", "main", 3)] == [ids[3]]
    store.close()


def test_a_worker_that_lost_its_job_changes_nothing(store: Store) -> None:
    id_ = store.add("fusion", {}).id
    (old,) = store.claim("old", "main")
    store.recover()
    (new,) = store.claim("new", "main")
    assert not store.progress(old, 5, 5)
    assert not store.finish(old, {"by": "old"}, 1)
    assert store.finish(new, {"by": "new"}, 1)
    assert not store.fail(new, "twice")
    job = store.need(id_)
    assert (job.state, job.result) == ("done", {"by": "new"})
    store.close()


def test_a_job_that_kills_workers_fails_and_takes_no_others_along(store: Store) -> None:
    bad, good = (store.add("fusion", {}, alike="x").id for _ in range(2))
    assert len(store.claim("w", "main", 2)) == 2
    store.bury("w", "died")
    for _ in range(MOST_DEATHS - 1):  # alone now
        assert [job.id for job in store.claim("w", "main", 2)] == [bad]
        store.bury("w", "died")
    assert (store.need(bad).state, store.need(bad).problem) == ("failed", "died")
    assert store.need(good).state == "queued"
    store.close()


def test_a_full_queue_takes_no_more_but_knows_its_own(store: Store) -> None:
    first = store.add("fusion", {}, retry_key="k", most=1)
    with pytest.raises(QueueFullError):
        store.add("fusion", {}, most=1)
    assert store.add("fusion", {}, retry_key="k", most=1).id == first.id
    store.add("preview", {}, lane="quick", most=1)
    store.close()


def test_what_is_old_or_too_much_expires(tmp_path: Path) -> None:
    settings = Settings(data=tmp_path, keep_hours=1, keep_bytes=250)
    folders = Folders(tmp_path)
    store = Store(folders.database)
    supervisor = Supervisor(settings, store, folders)
    ids = [store.add("fusion", {}, size=100).id for _ in range(5)]
    for id_ in ids:
        folders.job(id_).mkdir()
        put(folders.job(id_) / "fused.png", b"x")
    for _ in ids[:4]:
        (job,) = store.claim("w", "main")
        store.finish(job, {}, 100)
    supervisor.sweep()
    kept = {id_ for id_ in ids if store.get(id_)}
    assert kept == {ids[2], ids[3], ids[4]}  # the oldest are too much; what waits stays
    assert {path.name for path in folders.jobs.iterdir()} == kept
    assert store.expired(before=2e10, most_bytes=10**9) == [ids[3], ids[2]]
    store.close()


def test_nothing_is_taken_when_the_disk_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folders = Folders(tmp_path)
    store = Store(folders.database)
    service = Service(Settings(data=tmp_path), store, folders)
    service.check_queue()
    usage = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(Problem) as refused:
        service.check_queue()
    assert refused.value.status_code == 507
    store.close()
