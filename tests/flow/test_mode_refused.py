"""Two guards go by the times of events: without them no mode but `off` is entered, by a start or by a reload."""

import json
from pathlib import Path

from tests.support.daemon import Sections, configuration, installed, paidwatch, running
from tests.support.postgres import Server
from tests.support.sink import Sink

UNTIMED: Sections = {"events": {"created_at": ""}}
AUTO: Sections = {"activation": {"mode": "auto"}}
SAID = "events.created_at is empty, and activation.mode is auto"


async def test_events_without_a_time_keep_the_machine_off(server: Server, told: Sink, tmp_path: Path) -> None:
    database = await installed(server, "F", UNTIMED)
    try:
        file = tmp_path / "paidwatch.toml"
        file.touch(mode=0o600)
        file.write_text(configuration(database, told, UNTIMED, AUTO))
        refused = await paidwatch("run", config=file, expect=78)
        assert SAID in refused.stderr
        assert "name the column" in refused.stderr
        checked = await paidwatch("config", "check", "--json", config=file, expect=78)
        (problem,) = json.loads(checked.stdout)["problems"]
        assert (problem["source"], problem["key"]) == (str(file), "events.created_at")
        file.write_text(configuration(database, told, UNTIMED))
        async with running(file) as daemon:
            await daemon.ready()
            await daemon.reload(UNTIMED, AUTO, database=database, sink=told)
            (refusal,) = await daemon.log("config.refused")
            assert SAID in refusal["error"]
            assert "name the column" in refusal["remedy"]
            await daemon.reload(UNTIMED, database=database, sink=told)
            (reloaded,) = await daemon.log("config.reloaded")
            assert reloaded["mode"] == "off"
    finally:
        await server.drop(database)
