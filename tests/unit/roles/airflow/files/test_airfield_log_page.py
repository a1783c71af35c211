from __future__ import annotations

import importlib.util
import io
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

FILE = Path(__file__).parents[5] / "roles/airflow/files/airfield_log_page.py"
LIMIT = 200_000
LINE = '{"event": "line é"}\n'
BIG = LINE.encode() * 50_000


class Airflow:
    """A release with its readers of logs, as far as they are replaced: one log in the bucket, one file, one worker."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self.bucket: dict[str, bytes] = {}
        self.served = b""
        self.asked: list[str | None] = []
        airflow = self

        class FileTaskHandler:
            def _read(self, read: Any) -> Any:
                return read()

        class S3RemoteLogIO:
            hook = SimpleNamespace(get_key=airflow.object)
            log = SimpleNamespace(exception=lambda message: None)

            def s3_read(self, remote_log_location: str, return_error: bool = False) -> str:
                return airflow.bucket[remote_log_location].decode()

        self.handler, self.remote = FileTaskHandler(), S3RemoteLogIO()
        self.module = ModuleType("airflow.utils.log.file_task_handler")
        vars(self.module).update(FileTaskHandler=FileTaskHandler, Path=Path)
        self.requests = ModuleType("requests")
        vars(self.requests)["get"] = self.get
        s3, plugins, log = (ModuleType(name) for name in ("s3", "airflow.plugins_manager", "airflow.utils.log"))
        vars(s3)["S3RemoteLogIO"] = S3RemoteLogIO
        vars(plugins)["AirflowPlugin"] = object
        vars(log)["file_task_handler"] = self.module
        modules = {
            "airflow": ModuleType("airflow"),
            "airflow.plugins_manager": plugins,
            "airflow.providers.amazon.aws.log.s3_task_handler": s3,
            "airflow.utils.log": log,
            "requests": self.requests,
        }
        for name, module in modules.items():
            monkeypatch.setitem(sys.modules, name, module)
        spec = importlib.util.spec_from_file_location("airfield_log_page", FILE)
        assert spec is not None
        assert spec.loader is not None
        self.plugin = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(self.plugin)

    def object(self, key: str) -> Any:
        data = self.bucket[key]

        def get(Range: str = "") -> Any:  # noqa: N803 - S3's name
            begin = int(Range.removeprefix("bytes=").rstrip("-")) if Range else 0
            return {"Body": io.BytesIO(data[begin:])}

        return SimpleNamespace(content_length=len(data), get=get)

    def get(self, url: str, headers: dict[str, str], **kwargs: Any) -> Any:
        wanted = headers.get("Range")
        self.asked.append(wanted)
        if wanted and not self.served:
            return SimpleNamespace(status_code=416, headers={}, content=b"")
        part = self.served[-int(wanted.removeprefix("bytes=-")) :] if wanted else self.served
        found = {"Content-Range": f"bytes 0-1/{len(self.served)}"} if wanted else {}
        return SimpleNamespace(status_code=206 if wanted else 200, headers=found, content=part, raw=io.BytesIO(part))

    def page(self, read: Any) -> Any:
        return self.handler._read(read)


@pytest.fixture
def airflow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Airflow:
    monkeypatch.setenv("AIRFIELD_LOG_PAGE_BYTES", str(LIMIT))
    airflow = Airflow(tmp_path, monkeypatch)
    airflow.plugin.AirfieldLogPagePlugin.on_load()
    return airflow


def check(text: str, source: str) -> None:
    """The end of BIG below a line that says where the rest is."""
    notice, *lines = text.splitlines(keepends=True)
    assert notice.startswith("*** Airfield: this page shows the last 0.2 MB of 1.0 MB. All of it is in ")
    assert source in notice
    assert set(lines) == {LINE}
    assert LIMIT - 100 < len(text.encode()) < LIMIT + 400


def test_object_in_the_bucket_is_read_from_its_end(airflow: Airflow) -> None:
    airflow.bucket = {"s3://logs/1.log": BIG}
    check(airflow.page(lambda: airflow.remote.s3_read("s3://logs/1.log")), "s3://logs/1.log")


def test_log_within_the_limit_is_whole(airflow: Airflow) -> None:
    airflow.bucket = {"s3://logs/1.log": LINE.encode(), "s3://logs/2.log": b""}
    assert airflow.page(lambda: airflow.remote.s3_read("s3://logs/1.log")) == LINE
    assert airflow.page(lambda: airflow.remote.s3_read("s3://logs/2.log")) == ""
    airflow.served = LINE.encode()
    assert airflow.page(lambda: airflow.requests.get("http://worker", headers={})).content == LINE.encode()
    (airflow.folder / "1.log").write_text(LINE)
    assert airflow.page(lambda: airflow.module.open(str(airflow.folder / "1.log"), encoding="utf-8").read()) == LINE


def test_worker_that_appends_to_a_log_reads_all_of_it(airflow: Airflow) -> None:
    airflow.bucket = {"s3://logs/1.log": BIG}
    assert airflow.remote.s3_read("s3://logs/1.log").encode() == BIG


def test_worker_is_asked_for_the_end_of_a_log_of_a_running_task(airflow: Airflow) -> None:
    airflow.served = BIG
    answer = airflow.page(lambda: airflow.requests.get("http://worker1:8793/log/1.log", headers={"Authorization": "token"}))
    assert airflow.asked == [f"bytes=-{LIMIT}"]
    check(answer.raw.read().decode(), "http://worker1:8793/log/1.log, and in the bucket when the task has ended")
    assert answer.headers["Content-Length"] == str(len(answer._content))


def test_empty_log_of_a_running_task_is_no_error(airflow: Airflow) -> None:
    assert airflow.page(lambda: airflow.requests.get("http://worker1", headers={})).status_code == 200


def test_file_is_read_from_its_end(airflow: Airflow) -> None:
    path = airflow.folder / "1.log"
    path.write_bytes(BIG)
    check(airflow.page(lambda: airflow.module.open(str(path), encoding="utf-8").read()), str(path))
    # As Airflow 2 does it.
    folder = airflow.module.Path(airflow.folder)
    check(airflow.page(sorted(folder.glob("1.log*"))[0].read_text), str(path))
    # No page: the handler of a task that writes its log.
    with airflow.module.open(str(path), "a") as file:
        file.write(LINE)
    assert airflow.module.open(str(path), encoding="utf-8").read().encode() == BIG + LINE.encode()


def test_sources_of_a_page_share_its_limit_and_each_shows_its_end(airflow: Airflow) -> None:
    airflow.bucket = {f"s3://logs/{number}": BIG for number in range(4)}
    texts = airflow.page(lambda: [airflow.remote.s3_read(key) for key in airflow.bucket])
    assert sum(len(text.encode()) for text in texts) < LIMIT + 3 * (64 * 1024 + 400)
    assert all(text.endswith(LINE) for text in texts)
    # The next page has all of its own.
    check(airflow.page(lambda: airflow.remote.s3_read("s3://logs/1")), "s3://logs/1")


def test_last_line_that_is_longer_than_a_page_is_cut(airflow: Airflow) -> None:
    airflow.bucket = {"s3://logs/1.log": "é".encode() * LIMIT}
    notice, line = airflow.page(lambda: airflow.remote.s3_read("s3://logs/1.log")).splitlines()
    assert LIMIT - 4 < len(line.encode()) <= LIMIT
    assert set(line) == {"é"}


def test_object_that_cannot_be_read_says_so_as_airflow_does(airflow: Airflow) -> None:
    assert "KeyError" not in airflow.page(lambda: airflow.remote.s3_read("s3://logs/none"))
    text = airflow.page(lambda: airflow.remote.s3_read("s3://logs/none", return_error=True))
    assert text.startswith("Could not read logs from s3://logs/none with error: ")


def test_process_that_is_no_web_server_keeps_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AIRFIELD_LOG_PAGE_BYTES", raising=False)
    airflow = Airflow(tmp_path, monkeypatch)
    airflow.plugin.AirfieldLogPagePlugin.on_load()
    airflow.bucket = {"s3://logs/1.log": BIG}
    assert airflow.page(lambda: airflow.remote.s3_read("s3://logs/1.log")).encode() == BIG
