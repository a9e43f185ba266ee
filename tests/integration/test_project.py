"""The project folder on a real disk: what is read, what is kept, what is said with its line."""

import asyncio
import contextlib
import os
import time

import pytest

from nomaflow.language import template
from nomaflow.project import toml_text
from nomaflow.project.folder import Project
from nomaflow.project.toml_text import BrokenTomlError


def job(name, *, extra=""):
    return f"""
[[jobs]]
name = "{name}"
schedule = "0 2 * * *"
{extra}
[[jobs.steps]]
name = "call"
type = "python"
callable = "pkg.mod:func"
"""


def put(root, files):
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


def problems(found):
    return [(p.file, p.line, p.path, p.message) for p in found]


def test_every_form_of_the_folder_is_read(tmp_path):
    put(
        tmp_path,
        {
            "jobs.toml": job("one") + job("two"),
            "jobs/b.toml": job("four"),
            "jobs/a.toml": job("three"),
            "jobs/notes.txt": "not a job",
            "jobs/.hidden.toml": "broken",
            "plugins/billing/jobs.toml": job("five") + job("six", extra='app = "other"'),
        },
    )
    project = Project(tmp_path)
    found = project.read_jobs()
    assert [(j.spec.name, j.spec.app, j.file, j.line) for j in found.jobs] == [
        ("one", "_default", "jobs.toml", 2),
        ("two", "_default", "jobs.toml", 11),
        ("three", "_default", "jobs/a.toml", 2),
        ("four", "_default", "jobs/b.toml", 2),
        ("five", "billing", "plugins/billing/jobs.toml", 2),
        ("six", "other", "plugins/billing/jobs.toml", 11),
    ]
    assert found.problems == []
    assert [p.name for p in project.job_toml_paths()] == [
        "jobs.toml",
        "a.toml",
        "b.toml",
        "jobs.toml",
    ]


def test_a_file_that_is_empty_just_now_takes_no_job_away(tmp_path):
    (tmp_path / "jobs.toml").write_text("\n")
    found = Project(tmp_path).read_jobs()
    assert found.unreadable_files == {"jobs.toml"}
    assert [(p.file, p.line) for p in found.problems] == [("jobs.toml", 1)]
    assert "delete it" in found.problems[0].message


def test_an_empty_folder_has_nothing(tmp_path):
    project = Project(tmp_path / "nowhere")
    assert project.read_jobs().jobs == []
    assert project.read_jobs().problems == project.other_problems() == []
    assert dict(project.env()) == dict(project.connectors().specs) == {}
    assert project.alerts().by_name == {}


def test_the_zone_of_jobs_that_name_none(tmp_path):
    put(tmp_path, {"jobs.toml": job("one")})
    project = Project(tmp_path)
    assert project.read_jobs("Asia/Tokyo").jobs[0].spec.timezone == "Asia/Tokyo"
    assert project.read_jobs().jobs[0].spec.timezone == "UTC"


def test_a_bad_job_loses_only_itself(tmp_path):
    text = job("one") + job("two", extra='timezone = "Europe/Pari"') + job("three")
    put(tmp_path, {"jobs.toml": text, "jobs/ok.toml": job("four")})
    found = Project(tmp_path).read_jobs()
    assert [j.spec.name for j in found.jobs] == ["one", "three", "four"]
    assert (found.bad_jobs, found.unreadable_files) == ({"two"}, set())
    assert problems(found.problems) == [
        (
            "jobs.toml",
            14,
            ("jobs", "1", "timezone"),
            "job `two`: unknown timezone `Europe/Pari`; did you mean `Europe/Paris`?",
        )
    ]


def test_a_broken_file_loses_only_itself(tmp_path):
    put(tmp_path, {"jobs/a.toml": job("one") + "[[jobs]\n", "jobs/b.toml": job("two")})
    found = Project(tmp_path).read_jobs()
    assert [j.spec.name for j in found.jobs] == ["two"]
    assert found.unreadable_files == {"jobs/a.toml"}
    [(file, line, path, message)] = problems(found.problems)
    assert (file, line, path) == ("jobs/a.toml", 10, ())
    assert message.startswith("this is not TOML: expected ']]'")


def test_a_job_without_a_name_keeps_its_whole_file(tmp_path):
    put(tmp_path, {"jobs.toml": job("one") + "[[jobs]]\nsteps = []\n"})
    found = Project(tmp_path).read_jobs()
    assert [j.spec.name for j in found.jobs] == ["one"]
    assert found.unreadable_files == {"jobs.toml"}
    assert ("jobs.toml", 10, ("jobs", "1", "name"), "job number 2: `name` is missing") in problems(
        found.problems
    )


FILE_WIDE = [
    ("jbos = 1\n", 1, ("jbos",), "did you mean `jobs`?"),
    ('[jobs]\nname = "x"\n', 1, ("jobs",), "write [[jobs]] in double brackets"),
    ("jobs = 5\n", 1, ("jobs",), "must be a list of tables, not 5"),
    ("[step_defaults]\nconnectr = 1\n" + job("x"), 2, ("step_defaults", "connectr"), "`connector`"),
    ("step_defaults = 1\n" + job("x"), 1, ("step_defaults",), "must be a table"),
    ("jobs = [7]\n", 1, ("jobs", "0"), "a job is a table, not 7"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "line", "path", "why"), FILE_WIDE)
def test_what_is_wrong_with_a_file_as_a_whole(tmp_path, text, line, path, why):
    put(tmp_path, {"jobs.toml": text})
    found = Project(tmp_path).read_jobs()
    [problem] = found.problems
    assert (problem.line, problem.path) == (line, path)
    assert why in problem.message


def test_a_name_that_is_declared_twice_is_told_at_the_second_place(tmp_path):
    put(tmp_path, {"jobs.toml": job("one") + job("one"), "jobs/a.toml": "\n" + job("one")})
    found = Project(tmp_path).read_jobs()
    assert [(j.file, j.line) for j in found.jobs] == [("jobs.toml", 2)]
    said = "job `one` is declared already in jobs.toml line 2; this one is not loaded"
    assert problems(found.problems) == [
        ("jobs.toml", 11, ("jobs", "one"), said),
        ("jobs/a.toml", 3, ("jobs", "one"), said),
    ]


def test_step_defaults_of_a_file(tmp_path):
    put(
        tmp_path,
        {"jobs.toml": "[step_defaults]\ntimeout = 7\n" + job("one"), "jobs/a.toml": job("b")},
    )
    found = Project(tmp_path).read_jobs()
    assert [j.spec.steps[0].timeout_seconds for j in found.jobs] == [7, 3600]


@pytest.mark.parametrize("folder", ["My-App", "9lives", "a" * 65, "caf\u00e9", "a b"])
def test_plugin_folders_that_are_no_package_are_passed_over_aloud(tmp_path, folder):
    put(tmp_path, {f"plugins/{folder}/jobs.toml": job("one")})
    found = Project(tmp_path).read_jobs()
    assert found.jobs == []
    assert "must be named with small letters" in found.problems[0].message


def test_links_that_lead_out_are_passed_over_aloud(tmp_path):
    root, outside = tmp_path / "project", tmp_path / "outside"
    put(outside, {"jobs.toml": job("stolen")})
    put(root, {"plugins/inside/jobs.toml": job("one"), "plugins/empty/x.py": ""})
    (root / "plugins" / "linked").symlink_to(outside)
    (root / "plugins" / "empty" / "jobs.toml").symlink_to(outside / "jobs.toml")
    (root / "plugins" / "alias").symlink_to(root / "plugins" / "inside")
    found = Project(root).read_jobs()
    assert [j.spec.name for j in found.jobs] == ["one"]
    said = [(p.file, p.message) for p in found.problems]
    lead_out = "the file is not read: it leads outside of the project's plugins"
    assert ("plugins/linked/jobs.toml", lead_out) in said
    assert ("plugins/empty/jobs.toml", lead_out) in said


def test_what_is_no_file_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "jobs.toml")
    os.mkfifo(tmp_path / ".env")
    (tmp_path / "connectors.toml").mkdir()
    put(tmp_path, {"jobs/a.toml": job("one")})
    project = Project(tmp_path)
    found = project.read_jobs()
    assert [j.spec.name for j in found.jobs] == ["one"]
    assert found.unreadable_files == {"jobs.toml"}
    assert {p.file for p in project.other_problems()} == {".env", "connectors.toml"}


def test_a_file_of_ten_megabytes_is_not_read(tmp_path):
    put(tmp_path, {"jobs.toml": "# " + "x" * 10_000_000})
    [problem] = Project(tmp_path).read_jobs().problems
    assert problem.message == "the file is larger than 256 KB"


def test_unchanged_files_are_not_parsed_again(tmp_path):
    put(tmp_path, {"jobs/a.toml": job("one"), "jobs/b.toml": job("two")})
    project = Project(tmp_path)
    first = project.read_jobs().jobs
    put(tmp_path, {"jobs/b.toml": job("two", extra="priority = 5")})
    second = project.read_jobs().jobs
    assert second[0] is first[0]
    assert second[1].spec.priority == 5


# --- .env


def test_secrets_are_taken_as_they_stand(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME_OF", "process")
    text = (
        "# comment\nTOKEN=abc\nexport QUOTED='a b # c'\nREF=${TOKEN}/${HOME_OF}\n"
        'LINES="a\\nb"\nEMPTY=\nthis line is wrong\n'
    )
    put(tmp_path, {".env": text})
    project = Project(tmp_path)
    assert dict(project.env()) == {
        "TOKEN": "abc",
        "QUOTED": "a b # c",
        "REF": "${TOKEN}/${HOME_OF}",
        "LINES": "a\nb",
        "EMPTY": "",
    }
    assert "TOKEN" not in os.environ
    [problem] = project.other_problems()
    assert (problem.file, problem.line) == (".env", 7)
    assert "wrong" not in problem.message


def test_secrets_are_read_again_when_the_file_changes(tmp_path):
    put(tmp_path, {".env": "A=1"})
    project = Project(tmp_path)
    first = project.env()
    assert project.env() is first
    put(tmp_path, {".env": "A=22"})
    assert project.env()["A"] == "22"
    (tmp_path / ".env").unlink()
    assert dict(project.env()) == {}


def test_the_file_of_secrets_may_lie_elsewhere(tmp_path):
    put(tmp_path, {"run/secrets": "A=1", "project/.env": "A=2"})
    project = Project(tmp_path / "project", env_file=tmp_path / "run" / "secrets")
    assert project.env() == {"A": "1"}


# --- connectors.toml and alerts.toml

CONNECTORS = """
[env]
public = ["ENV"]

[connectors.ops-db]
kind = "sql"
url = "${env:OPS_DB_URL}"
[connectors.ops-db.queries.refresh]
operation = "write"
sql = "UPDATE t SET x = :x"

[connectors.hub]
kind = "http"
url = "https://${env:HOST}/"
headers = { Authorization = "Bearer ${env:TOKEN}" }
"""


def test_connectors_are_read_with_their_tokens(tmp_path):
    put(tmp_path, {"connectors.toml": CONNECTORS, ".env": "HOST=h\nTOKEN=t"})
    project = Project(tmp_path)
    specs = project.connectors().specs
    assert sorted(specs) == ["hub", "ops-db"]
    assert specs["ops-db"].queries["refresh"].operation == "write"
    scope = template.Scope(env=project.env())
    assert specs["hub"].rendered(lambda value: template.render(value, scope)).url == "https://h/"
    assert project.public_env == ("ENV",)
    assert project.connectors() is project.connectors()
    assert project.other_problems() == []


BAD_CONNECTORS = [
    ('kind = "sql"\nulr = "x"\n', 3, ("connectors", "x", "ulr"), "did you mean `url`?"),
    ('kind = "sql"\n', 1, ("connectors", "x"), "give `url`"),
    (
        'kind = "sql"\ndriver = "db2"\n',
        3,
        ("connectors", "x", "driver"),
        "there is no driver `db2`",
    ),
    ('kind = "sql"\nurl = "ftp://h/d"\n', 3, ("connectors", "x", "url"), "no scheme `ftp`"),
    ('kind = "sql"\nurl = "u:pw@h/d"\n', 3, ("connectors", "x", "url"), "begins with no scheme"),
    ('kind = "sqll"\n', 2, ("connectors", "x", "kind"), "`kind` must be one of sql, http, ldap"),
    ('url = "x"\n', 1, ("connectors", "x", "kind"), "`kind` is missing"),
    (
        'kind = "http"\nurl = "x"\nauth = { type = "x" }\n',
        4,
        ("connectors", "x", "auth"),
        "`type` is one of bearer",
    ),
    ('kind = "http"\nurl = "http://[::1"\n', 3, ("connectors", "x", "url"), "cannot be read"),
    ('kind = "http"\nurl = "http:///x"\n', 3, ("connectors", "x", "url"), "names no host"),
    ('kind = "http"\n', 1, ("connectors", "x", "url"), "`url` is missing"),
    ('kind = "sql"\nurl = "${foo:x}"\n', 3, ("connectors", "x", "url"), "unknown token"),
    ('kind = "sql"\nurl = "${kw:x}"\n', 3, ("connectors", "x", "url"), "a connector knows no run"),
]


@pytest.mark.parametrize(("text", "line", "path", "why"), BAD_CONNECTORS)
def test_a_bad_connector_loses_only_itself(tmp_path, text, line, path, why):
    good = '[connectors.good]\nkind = "sql"\nurl = "postgresql://h/d"\n'
    put(tmp_path, {"connectors.toml": f"[connectors.x]\n{text}{good}"})
    project = Project(tmp_path)
    assert list(project.connectors().specs) == ["good"]
    found = problems(project.other_problems())
    assert ("connectors.toml", line) in [p[:2] for p in found]
    assert all(p[3].startswith("connector `x`: ") for p in found)
    assert any(why in p[3] and p[2][: len(path)] == path for p in found), found


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("[conectors.x]\n", "did you mean `connectors`?"),
        ("[env]\npublic = 5\n", '`[env]` holds `public = ["NAME", ...]`'),
        ("[env]\npublic = []\nprivate = []\n", "there is no field `private`"),
        ("connectors = 5\n", "write each connector as a table"),
        ('[connectors."a b"]\nkind = "sql"\n', "a name is 1 to 128 letters"),
        ("[connectors]\nx = 5\n", "it must be a table, not 5"),
        ("[connectors.x\n", "this is not TOML"),
    ],
)
def test_what_is_wrong_with_connectors_toml(tmp_path, text, why):
    put(tmp_path, {"connectors.toml": text})
    assert any(why in p.message for p in Project(tmp_path).other_problems())


def test_what_was_good_stays_while_a_file_is_broken(tmp_path):
    put(
        tmp_path,
        {
            "connectors.toml": CONNECTORS,
            "alerts.toml": '[channels.ops]\nkind = "webhook"\nurl = "http://h/"\n',
        },
    )
    project = Project(tmp_path)
    before, channels = project.connectors().specs, project.alerts().by_name
    assert list(channels) == ["ops"]
    put(tmp_path, {"connectors.toml": CONNECTORS + "[[", "alerts.toml": "[channels.ops\n"})
    assert project.connectors().specs == before
    assert project.public_env == ("ENV",)
    assert project.alerts().by_name == channels
    assert [(p.file, p.line) for p in project.other_problems()] == [
        ("connectors.toml", 16),
        ("alerts.toml", 1),
    ]
    changed = CONNECTORS.replace('"https://${env:HOST}/"', "5").replace("OPS_DB_URL", "NEW_URL")
    put(tmp_path, {"connectors.toml": changed})
    assert project.connectors().specs["hub"] == before["hub"]
    assert project.connectors().specs["ops-db"].url == "${env:NEW_URL}"


def test_a_wrong_channel_has_its_line(tmp_path):
    put(tmp_path, {"alerts.toml": '[channels.ops]\nkind = "slakc"\nurl = "http://h/"\n'})
    [problem] = Project(tmp_path).other_problems()
    assert (problem.file, problem.line, problem.path) == (
        "alerts.toml",
        2,
        ("channels", "ops", "kind"),
    )


# --- changes


async def test_changes_are_noticed(tmp_path):
    put(tmp_path, {"jobs.toml": job("one"), "plugins/old/x.py": ""})
    changes = Project(tmp_path).changes()
    edits = [
        {"jobs.toml": job("one", extra="priority = 1")},
        {".env": "A=1"},
        {"connectors.toml": CONNECTORS},
        {"jobs/new.toml": job("two")},
        {"plugins/old/jobs.toml": job("three")},
        {"plugins/new/jobs.toml": job("four")},
    ]
    async with contextlib.aclosing(changes):
        for edit in edits:
            noticed = asyncio.ensure_future(anext(changes))
            await asyncio.sleep(0.05)  # the watch begins with the first wait for a change
            put(tmp_path, edit)
            await asyncio.wait_for(noticed, 8)


async def test_a_change_before_the_first_look_is_not_missed(tmp_path):
    put(tmp_path, {"jobs.toml": job("one")})
    changes = Project(tmp_path).changes()
    put(tmp_path, {"jobs.toml": job("one") + job("two")})  # while the first one is read
    async with contextlib.aclosing(changes):
        await asyncio.wait_for(anext(changes), 8)


def test_a_file_that_is_being_written_is_read_when_it_is_whole(tmp_path, monkeypatch):
    put(tmp_path, {"jobs.toml": job("one")})
    project = Project(tmp_path)
    assert len(project.read_jobs().jobs) == 1
    put(tmp_path, {"jobs.toml": ""})  # what an editor does first
    rest = iter([job("one"), job("one") + job("two")])

    def write_on(_seconds):
        if (text := next(rest, None)) is not None:
            put(tmp_path, {"jobs.toml": text})

    monkeypatch.setattr("nomaflow.project.files.time.sleep", write_on)
    assert len(project.read_jobs().jobs) == 2


async def test_what_is_not_ours_is_not_a_change(tmp_path):
    put(tmp_path, {"jobs.toml": job("one")})
    changes = Project(tmp_path).changes()
    async with contextlib.aclosing(changes):
        noticed = asyncio.ensure_future(anext(changes))
        await asyncio.sleep(0.05)
        put(tmp_path, {"notes.txt": "x", "plugins/a/data.json": "{}", "plugins/a/b-c.py": "x = 1"})
        await asyncio.sleep(0.5)
        assert not noticed.done()
        put(tmp_path, {"jobs.toml": job("two")})
        await asyncio.wait_for(noticed, 8)


# --- speed


def test_five_hundred_jobs(tmp_path):
    put(
        tmp_path,
        {f"jobs/{n}.toml": "".join(job(f"j{n}-{m}") for m in range(50)) for n in range(10)},
    )
    project = Project(tmp_path)
    started = time.process_time()
    assert len(project.read_jobs().jobs) == 500
    first = time.process_time() - started
    started = time.process_time()
    assert len(project.read_jobs().jobs) == 500
    again = time.process_time() - started
    print(f"500 jobs: {first * 1000:.0f} ms, again {again * 1000:.1f} ms")
    assert again < first / 5


def work_of_reading(text):
    """Seconds of the processor, which others on the machine do not lengthen."""
    started = time.process_time()
    with contextlib.suppress(BrokenTomlError):
        toml_text.read(text[: toml_text.LARGEST].encode())
    return time.process_time() - started


@pytest.fixture(scope="module")
def plain_work():
    """The work of a plain file of the largest size."""
    text = "".join(job(f"j{n}") for n in range(4_000))
    return min(work_of_reading(text) for _ in range(3))


@pytest.mark.parametrize(
    "text",
    [
        "a" * 262_000,
        "a = '" + "b" * 262_000 + "'",
        'a = "' + "b.c " * 65_000 + '"',
        "a = [" + "1," * 130_000 + "]",
        "a = [" + "'x'," * 65_000 + "]",
        "a = '" + "'" * 200_000,
        'a = """' + '"\n' * 100_000,
        "[" * 262_000,
        "".join(f"[t{n}]\n" for n in range(30_000)),
        "".join(f"k{n}.a = 1\n" for n in range(20_000)),
        "# " + "a." * 130_000,
    ],
    ids=lambda text: text[:8].encode().hex(),
)
def test_no_text_is_slow(text, plain_work):
    """What takes time by the square of the size takes thousands of times as long."""
    assert work_of_reading(text) < 25 * plain_work
