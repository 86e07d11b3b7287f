"""One line of JSON for everything a server says."""

import io
import json
import os

from bgserver import logs

LINE = "I1122 19:05:56.123456 4711 model_lifecycle.cc:839] \"successfully loaded 'preprocess'\"\n"


def test_a_line_of_tritonserver_becomes_time_level_source_and_message():
    fields = logs.of_line(LINE)
    assert fields.pop("time").endswith("-11-22T19:05:56.123456Z")
    assert fields == {
        "level": "info",
        "source": "model_lifecycle.cc:839",
        "message": "successfully loaded 'preprocess'",
    }


def test_what_a_model_says_as_an_object_becomes_fields_that_cannot_hide_where_it_came_from():
    said = json.dumps({"model": "preprocess", "request_id": 'a "b"\n', "level": "fatal"})
    fields = logs.of_line(f"I1122 19:05:56.123456 4711 serving.py:89] {json.dumps(said)}\n")
    assert fields.pop("time").endswith("-11-22T19:05:56.123456Z")
    assert fields == {
        "level": "info",
        "source": "serving.py:89",
        "model": "preprocess",
        "request_id": 'a "b"\n',
    }


def test_a_line_of_somebody_else_is_an_error_with_its_text_kept():
    fields = logs.of_line("stub: error while loading shared libraries: libpython3.11.so.1.0\n")
    assert fields["level"] == "error"
    assert fields["message"] == "stub: error while loading shared libraries: libpython3.11.so.1.0"


def test_a_restart_is_a_warning_and_giving_up_is_fatal():
    assert logs.of_event({"event": "restarting", "why": "a model's process died"})["level"] == "warning"
    assert logs.of_event({"event": "failed", "code": "port_busy"})["level"] == "fatal"
    assert logs.of_event({"event": "ready", "http": 8000})["http"] == 8000


def test_what_is_written_to_the_path_comes_out_as_json_lines_even_when_it_is_no_utf8():
    out = io.StringIO()
    log = logs.JsonLog(out)
    with open(log.path, "ab") as writer:
        os.write(writer.fileno(), LINE.encode() + b"\n" + b"\xff\xfe traceback\n")
    log.say({"event": "ready"})
    log.close()
    lines = [json.loads(line) for line in out.getvalue().splitlines()]
    assert {line.get("level", line.get("event")) for line in lines} == {"info", "error", "ready"}
    assert len(lines) == 3
