"""What a job says of its clocks, over GraphQL; and a start whose dependency is unmet."""

CREATE = """mutation ($input: JobInput!) { jobCreate(input: $input) {
  job { name revision } errors { code message path } } }"""
UPDATE = """mutation ($input: JobInput!) { jobUpdate(input: $input) {
  job { name } errors { code message path } } }"""
RUN = """mutation ($input: RunTriggerInput!) { runTrigger(input: $input) {
  created run { status reason steps { name } } errors { code message } } }"""
STEP = {"name": "a", "type": "sql_query", "config": {"connector": "default", "query": "SELECT 1"}}


async def create(api, name, **fields):
    wanted = {"name": name, "steps": [STEP], **fields}
    return (await api.query(CREATE, input=wanted))["jobCreate"]


async def test_every_field_of_a_clock_is_declared_and_read_back(api):
    await create(api, "x")
    answer = await create(
        api,
        "j",
        schedule="0 2 * * *",
        catchUp="ALL",
        catchUpLimit=3,
        catchUpWindowMinutes=90,
        jitterSeconds=2.5,
        dependencies=[{"job": "x", "since": "today", "by": "09:00"}],
        installStep=7,
        presets=[{"name": "p", "schedule": "0 * * * *", "timezone": "Europe/Paris"}],
        schedules=[
            {"name": "q", "everySeconds": 3600, "catchUp": "LAST", "calendar": "", "preset": "p"}
        ],
    )
    assert answer == {"job": {"name": "j", "revision": 1}, "errors": []}
    job = (
        await api.query(
            """{ job(name: "j") { calendar installStep dependsOn { name }
                 dependencies { job since by }
                 schedules { name catchUp catchUpLimit jitterSeconds preset warning }
                 presets { name schedule timezone nextFireAt } } }"""
        )
    )["job"]
    assert (job["calendar"], job["installStep"]) == (None, 7)
    assert job["dependsOn"] == [{"name": "x"}]
    assert job["dependencies"] == [{"job": "x", "since": "today", "by": "09:00"}]
    clocks = {clock.pop("name"): clock for clock in job["schedules"]}
    assert set(clocks) == {"default", "q", "p"}
    assert clocks["default"] == {
        "catchUp": "ALL",
        "catchUpLimit": 3,
        "jitterSeconds": 2.5,
        "preset": None,
        "warning": None,
    }
    assert (clocks["q"]["catchUp"], clocks["p"]["preset"]) == ("LAST", "p")
    (preset,) = job["presets"]
    assert preset["nextFireAt"] is not None


async def test_the_short_form_of_dependencies(api):
    await create(api, "x")
    assert (await create(api, "j", dependsOn=["x", "gone"]))["errors"] == []
    job = (await api.query("""{ job(name: "j") { dependsOn { name } toml } }"""))["job"]
    assert job["dependsOn"] == [{"name": "x"}]  # the other one is not there
    assert 'depends_on = ["x", "gone"]' in job["toml"]


async def test_a_dependency_that_is_not_there_is_told_until_it_is(api):
    told = "{ catalogProblems { file line path message } }"
    await create(api, "loads")
    await create(api, "j", dependsOn=["load"])
    (problem,) = (await api.query(told))["catalogProblems"]
    assert (problem["file"], problem["line"]) == ("(API)", None)
    assert problem["path"] == ["jobs", "j", "depends_on", "0"]
    assert (
        "depends on `load`, and there is no such job; did you mean `loads`?" in problem["message"]
    )
    await create(api, "load")
    assert (await api.query(told))["catalogProblems"] == []


async def test_mistakes_of_clocks_are_told_with_their_code_and_place(api):
    (problem,) = (await create(api, "j", dependsOn=["j"]))["errors"]
    assert (problem["code"], problem["path"]) == ("CYCLE", ["dependsOn", "0"])
    (problem,) = (await create(api, "j", calendar="nowhere"))["errors"]
    assert (problem["code"], problem["path"]) == ("INVALID", ["calendar"])
    (problem,) = (await create(api, "j", catchUpLimit=0))["errors"]
    assert problem["path"] == ["catchUpLimit"]
    assert "`catchUpLimit` must be" in problem["message"]
    clock = {"cron": "0 * * * *", "catchUpWindowMinutes": 0}
    (problem,) = (await create(api, "j", schedules=[clock]))["errors"]
    assert "`catchUpWindowMinutes` must be" in problem["message"]
    await create(api, "catch_up_limit")
    (problem,) = (await create(api, "catch_up_limit", dependsOn=["catch_up_limit"]))["errors"]
    assert "catchUp" not in problem["message"]  # what people named is theirs
    await create(api, "a")
    await create(api, "b", dependsOn=["a"])
    answer = await api.query(UPDATE, input={"name": "a", "steps": [STEP], "dependsOn": ["b"]})
    (problem,) = answer["jobUpdate"]["errors"]
    assert (problem["code"], problem["path"]) == ("CYCLE", ["dependsOn", "0"])
    assert "`a` → `b` → `a`" in problem["message"]


async def test_a_start_whose_dependency_is_unmet_is_a_skipped_run(api):
    await create(api, "x")
    await create(api, "j", dependsOn=["x"])
    answer = (await api.query(RUN, input={"job": "j"}))["runTrigger"]
    assert answer == {
        "created": True,
        "run": {"status": "SKIPPED", "reason": "dependency-never-ran: x", "steps": []},
        "errors": [],
    }
