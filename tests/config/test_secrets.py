"""Secrets in addresses: used to read, and nowhere to be seen."""

import json
import logging
import threading
import traceback
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from distill.config.address import Address
from distill.config.load import load_config, save_config, validate
from distill.config.sections.base import semantic_fields
from distill.corpus.collect import find_sources
from distill.errors import InputError, RunError
from distill.run.records import Drop, read_records
from distill.secrets import address_without_secrets, without_secrets
from flows.orchestration import logs
from flows.orchestration.notify import payload
from flows.run import open_run
from flows.steps import collect
from tests.support.corpus import LINES, REVIEWS

# Words that stand in no address below by chance.
SECRETS = st.text("ABCDEFGHJKLMNPQRSTUVWXYZ23456789", min_size=6, max_size=40)
MARKED = st.text("ABCDEFGHJKLMNPQRSTUVWXYZ23456789-_.~!$()*,", min_size=6, max_size=40)
FORMS = [
    "https://me:{}@host.org/a.csv", "https://{}@host.org/a.csv", "sftp://me:{}@host/a.csv", "ftp://me:{}@host/a.csv",
    "s3://AKEY:{}@bucket/a.csv", "zip://a.csv::https://me:{}@host/a.zip", "simplecache::https://host/a.csv?sig={}",
    "https://b.s3.amazonaws.com/a.csv?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Date=1&X-Amz-Signature={}",
    "https://b.s3.amazonaws.com/a.csv?versionId=3&X-Amz-Security-Token={}&X-Amz-Signature=x",
    "https://storage.googleapis.com/b/a.csv?GoogleAccessId=x&Expires=1&Signature={}",
    "https://acc.blob.core.windows.net/c/a.csv?sv=2020&sr=b&sp=r&sig={}", "https://h/a.csv?AWSAccessKeyId={}&Expires=1",
    "https://h/a.csv?Key-Pair-Id={}&Policy=x", "https://h/a.csv?OSSAccessKeyId={}", "https://h/a.csv?token={}",
    *(f"https://h/a.csv?page=2&{name}={{}}" for name in (
        "key", "api_key", "apikey", "access_token", "auth", "password", "pwd", "secret", "client_secret", "sessionid",
        "jwt", "code", "authToken", "x-api-key", "refresh-token", "Signature", "hmac", "private_token")),
    "https://h/a.csv?md5={}&expires=5", "https://h/a;jsessionid={}?x=1", "HTTPS://me:{}@h/a",
    "https://h/a.csv?a=1#access_token={}", "https://h/go?next=https%3A%2F%2Fme%3A{}%40other%2F"]


def config_of(address: str, **more: Any) -> dict[str, Any]:
    return {"name": "run", "corpus": {"sources": [{"kind": "jsonl", "path": address, **more}]},
            "teacher": {"model": {"name": "random-tiny"}}, "student": {"model": {"name": "random-tiny"}}}


@given(st.sampled_from(FORMS), SECRETS, MARKED, st.sampled_from(["{}", "407, url='{}'", "no {}, (see\n{})", "<{}>"]))
def test_no_text_made_of_an_address_holds_its_secret(form: str, secret: str, marked: str, text: str) -> None:
    for value in (secret, quote(f"{marked}/{secret}=", safe="")):
        address = form.replace("{}", value)
        held = Address(address)
        config = validate(config_of(address), "x")
        texts = [str(held), repr(held), held.identity, str(config), repr(config), json.dumps(config.to_json()),
                 json.dumps(semantic_fields(config)), without_secrets(text.replace("{}", address)),
                 str(InputError(f"There is no {address}.")), str(RunError(address)), held.hide(f"no {value} here"),
                 json.dumps(payload("f", address, "Failed", text.replace("{}", address)))]
        assert not [found for found in texts if value in found or secret in found]
        assert held.reveal() == address
        again = validate(config.to_json(), "x")
        assert again == config and again.to_json() == config.to_json()  # as it is read from the run's folder
        with pytest.raises(InputError, match="lost its secret part"):
            again.corpus.sources[0].path.reveal()  # type: ignore[union-attr]


@pytest.mark.parametrize("address", [
    "https://me:p@planted@h/a", "https://me:x/planted@h/a", "https://me:x?planted@h/a", "https://me:x#planted@h/a",
    "ftp://me:x/planted@h/a", "https://me:a planted@h/a", "https://me:a'planted\"@h/a"])
def test_a_password_with_signs_that_should_have_been_escaped_is_not_shown(address: str) -> None:
    held = Address(address)
    config = validate(config_of(address), "x")
    assert "planted" not in f"{held}{held!r}{held.identity}{config}{config.to_json()}{semantic_fields(config)}"
    assert "planted" not in held.hide(f"no file at {address}, or '{address}'")


@given(st.sampled_from(FORMS), SECRETS, SECRETS)
def test_an_object_whose_address_is_signed_anew_is_the_same_source(form: str, one: str, other: str) -> None:
    first, second = (Address(form.replace("{}", secret)) for secret in (one, other))
    assert first == second and hash(first) == hash(second) and str(first) == str(second)
    assert semantic_fields(validate(config_of(form.replace("{}", one)), "x")) == semantic_fields(
        validate(config_of(form.replace("{}", other)), "x"))


@pytest.mark.parametrize("address", [
    "s3://bucket/*.jsonl.zst", "https://example.org/a.csv?version=3&lang=en", "abfs://container@account.dfs.core/a.csv",
    "https://host:8080/x@y/a.csv", "github://owner:name@main/a.csv", "hf://datasets/o/n@refs/convert/a.parquet",
    "https://drive.google.com/uc?id=1x9AbCdEfGhIjKlMnOpQrStUv", "https://h/a.csv?monkey=1&keyword=author", "sftp://me@h/a",
    *(f"https://h/a?{typed}" for typed in (
        "key=imdb.csv", "key=reviews/amazon-books-2024-01-31.jsonl.zst", "key=AmazonReviews_20240131.csv", "code=en",
        "code=en-US", "session=1", "keys=id,text", "policy=strict", "exp=3", "pin=12", "sign=plus", "ticket=open",
        "sid=7", "key")),
    "s3://b/sk-wikipedia-20240101.jsonl", "http://host:8000/v1#Qwen2.5-7B-Instruct-1M"])
def test_what_is_no_secret_of_an_address_stays(address: str) -> None:
    assert without_secrets(f"see {address} there") == f"see {address} there"
    assert str(Address(address)) == address == Address(address).identity and not Address(address).is_secret


@pytest.mark.parametrize("address", [
    "https://h/a?key=9f86d081884c7d659a2f", "https://h/a?code=AQAB-xyZ12_q", "https://h/a?session=550e8400-e29b-41d4",
    "https://h/a?file=sk-proj-aB3dE5fG7hJ9kL1mN3pQ5", "https://h/sk-ant-api03-aB3-E5fG7hJ_kL1mN3pQ5rS",
    "https://h/v1#sk-aB3dE5fG7hJ9kL1mN3pQ5", "https://h/a?policy=open&sig=x", "https://h/a?hash=ab12&expires=99"])
def test_ambiguous_words_hide_what_nobody_typed_and_what_stands_beside_a_signature(address: str) -> None:
    held = Address(address)
    secret = address.rpartition("/")[2].rpartition("=")[2].rpartition("#")[2]
    assert held.is_secret and secret not in str(held) + held.identity + without_secrets(f"see {address} there")
    assert held.reveal() == address


@pytest.mark.parametrize(("one", "other"), [
    ("key=imdb.csv", "key=yelp.csv"), ("code=en", "code=de"), ("session=1", "session=2")])
def test_two_files_told_apart_by_an_ambiguous_word_are_two_sources_and_keep_their_addresses(
        one: str, other: str) -> None:
    two = config_of(f"https://h/a?{one}")
    two["corpus"]["sources"].append({"kind": "jsonl", "path": f"https://h/a?{other}"})
    again = validate(validate(two, "x").to_json(), "x")
    assert [source.path.reveal() for source in again.corpus.sources] == [  # type: ignore[union-attr]
        f"https://h/a?{one}", f"https://h/a?{other}"]


def test_addresses_of_other_objects_are_other_sources() -> None:
    shown = [address_without_secrets(address, "") for address in (
        "https://h/a?id=1&sig=x", "https://h/a?id=2&sig=x", "https://h/b?sig=x", "https://other/a?id=1&sig=x")]
    assert len(set(shown)) == 4
    two = config_of("https://h/a?token=one1")
    two["corpus"]["sources"].append({"kind": "jsonl", "path": "https://h/a?token=two2"})
    with pytest.raises(InputError, match="twice") as error:
        validate(two, "x")
    assert "one1" not in str(error.value) and "two2" not in str(error.value)


@pytest.mark.parametrize("key", [
    "teacher.model.name", "student.model.name", "prompts.general.path", "prompts.icldist.demonstrations",
    "evaluate.data_dir", "train.launch", "runs_dir", "corpus.sources.0.domain", "teacher.sampling.knowdist.stop.0"])
def test_no_other_key_takes_an_address_with_a_secret(key: str, tmp_path: Path) -> None:
    values = config_of("a.jsonl")
    values["teacher"]["sampling"] = {"knowdist": {"temperature": 0, "max_tokens": 5, "stop": ["x"]}}
    *parents, last = key.split(".")
    node: Any = values
    for part in parents:
        node = node[int(part)] if isinstance(node, list) else node.setdefault(part, {})
    node[int(last) if isinstance(node, list) else last] = "https://me:planted@host/x"
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(values))
    with pytest.raises(InputError) as error:
        load_config(tmp_path / "c.yaml")
    assert "planted" not in str(error.value) and f"'{key.removesuffix('.0').split('.')[-1]}' holds" in str(error.value)


def test_a_secret_on_the_command_line_is_refused_and_not_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(config_of("a.jsonl")))
    with pytest.raises(InputError, match=r"a command line is kept.*corpus.sources.0.path=\$\{MY_ADDRESS\}") as error:
        load_config(tmp_path / "c.yaml", ["corpus.sources.0.path=https://me:planted@host/x"])
    assert "planted" not in str(error.value)
    monkeypatch.setenv("MY_ADDRESS", "https://me:planted@host/x")
    config = load_config(tmp_path / "c.yaml", ["corpus.sources.0.path=${MY_ADDRESS}"])
    assert config.corpus.sources[0].path.reveal() == "https://me:planted@host/x"  # type: ignore[union-attr]
    assert "planted" not in json.dumps(config.to_json())


def test_a_library_s_log_line_and_traceback_show_no_secret(caplog: pytest.LogCaptureFixture) -> None:
    logs.install()
    try:
        raise OSError("no https://me:planted@host/x?sig=planted2")
    except OSError:
        logging.getLogger("some.library").exception("at %s", "https://host/x?token=planted3")
    assert "https://***@host/x?***" in caplog.text and "planted" not in caplog.text


class _Guarded(BaseHTTPRequestHandler):
    """Gives the file to those who have the password and the signature of the day."""

    def do_GET(self) -> None:
        known = self.headers.get("Authorization") or parse_qs(urlsplit(self.path).query).get("sig") == [
            self.server.signature]  # type: ignore[attr-defined]
        body = LINES if known else b"no"
        self.send_response(200 if known else 403)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("ETag", '"one"')
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_HEAD = do_GET

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def guarded() -> Iterator[ThreadingHTTPServer]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Guarded)
    server.signature = "planted0"  # type: ignore[attr-defined]
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def _everything_in(folder: Path) -> str:
    texts = [path.read_bytes().decode("latin-1") for path in folder.rglob("*") if path.is_file()]
    drops = [repr(list(read_records(path, Drop))) for path in folder.rglob("dropped.parquet")]
    return "\n".join(texts + drops)


def test_a_run_reads_a_signed_address_and_goes_on_without_it(
    guarded: ThreadingHTTPServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    address = f"http://127.0.0.1:{guarded.server_port}/reviews.jsonl?page=1&sig="
    settings = ["evaluate.tasks=[sst2]", "corpus.clean.min_chars=1"]

    def written(path: str) -> str:
        Path("mine.yaml").write_text(yaml.safe_dump(config_of(path)))
        return "mine.yaml"

    with open_run(written(address + "planted9"), overrides=settings) as run:
        with pytest.raises(InputError, match=r"reviews\.jsonl") as error:
            collect(run)
        assert "planted" not in "".join(traceback.format_exception(error.value)) + _everything_in(run.folder)
    with open_run(written(address + "planted0"), overrides=settings) as run:
        assert collect(run).details["by_source"] == {"reviews.jsonl": len(REVIEWS)}
        assert "planted" not in _everything_in(run.folder)
    guarded.signature = "planted1"  # type: ignore[attr-defined]
    with open_run(written(address + "planted1"), overrides=settings) as run:
        assert collect(run).reused  # signed anew
    with open_run(run="runs/run") as run:  # from what the folder holds
        assert collect(run).reused
    (run.folder / "corpus" / "_done.json").unlink()
    with open_run(run="runs/run") as run, pytest.raises(InputError, match="environment variable"):
        collect(run)
    monkeypatch.setenv("MY_ADDRESS", address + "planted1")
    with open_run(run="runs/run", overrides=["corpus.sources.0.path=${MY_ADDRESS}"]) as run:
        assert collect(run).details["texts"] == len(REVIEWS)
        assert "${MY_ADDRESS}" in (run.folder / "config.yaml").read_text()
    guarded.signature = "planted2"  # type: ignore[attr-defined]
    monkeypatch.setenv("MY_ADDRESS", address + "planted2")
    with open_run(run="runs/run") as run:  # and the variable is read again
        assert collect(run).reused
        (run.folder / "corpus" / "_done.json").unlink()
        monkeypatch.delenv("MY_ADDRESS")
        with pytest.raises(InputError, match="MY_ADDRESS, which is not set"):
            collect(run)
        assert "planted" not in _everything_in(run.folder) + caplog.text


def test_a_part_of_an_address_that_a_variable_holds_is_shown_by_its_name(
    tmp_path: Path, guarded: ThreadingHTTPServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FOLDER_OF_MINE", "planted-folder")
    monkeypatch.setenv("SIG", "planted0")
    address = f"http://127.0.0.1:{guarded.server_port}/${{FOLDER_OF_MINE}}/a.jsonl?sig=${{SIG}}"
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(config_of(address)))
    config = load_config(tmp_path / "c.yaml")
    save_config(config, tmp_path / "run" / "config.yaml")
    assert address in (tmp_path / "run" / "config.yaml").read_text()
    assert find_sources(config.corpus)[0].inputs()["files"][0][0] == "a.jsonl"  # type: ignore[arg-type]
    guarded.signature = "another"  # type: ignore[attr-defined]
    with pytest.raises(InputError) as error:
        find_sources(config.corpus)  # type: ignore[arg-type]
    assert "planted" not in str(error.value) and "FOLDER_OF_MINE" in str(error.value)
