"""Settings: sources, precedence, slips."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from wsklab.config import LabConfig, ModeSetting, config_schema, default_home, load_config
from wsklab.errors import ConfigError


def load(tmp_path: Path, **arguments: object):
    """Load with an empty surrounding, changed by the arguments."""
    values: dict[str, object] = {"environ": {}, "folder": tmp_path, "user_home": tmp_path / "home", **arguments}
    return load_config(**values)  # type: ignore[arg-type]


def test_defaults_without_any_source(tmp_path: Path) -> None:
    """Without a file, a variable or an option the two wine guests are chosen and the mode is automatic."""
    config = load(tmp_path)

    assert (config.guests, config.mode) == (("wine-bookworm", "wine-trixie"), ModeSetting.AUTO)


def test_precedence_of_all_sources(tmp_path: Path) -> None:
    """Options win over the environment, that over the project's file, that over the user's file."""
    user = tmp_path / "home/.config/wsklab/config.toml"
    user.parent.mkdir(parents=True)
    user.write_text("workers = 1\nquota = 1\nmemory_reserve_mib = 1\ndisk_reserve_mib = 1\n")
    (tmp_path / "wsklab.toml").write_text("workers = 2\nquota = 2\nmemory_reserve_mib = 2\n")
    environ = {"WSKLAB_WORKERS": "3", "WSKLAB_QUOTA": "3"}

    config = load(tmp_path, environ=environ, options={"workers": 4, "quota": None})

    assert (config.workers, config.quota, config.memory_reserve_mib, config.disk_reserve_mib) == (4, 3, 2, 1)


def test_named_file_takes_the_projects_place(tmp_path: Path) -> None:
    """--config FILE is read instead of wsklab.toml."""
    (tmp_path / "wsklab.toml").write_text("workers = 2\nquota = 2\n")
    other = tmp_path / "other.toml"
    other.write_text("workers = 5\n")

    config = load(tmp_path, file=other)

    assert (config.workers, config.quota) == (5, None)


def test_xdg_config_home_is_honoured(tmp_path: Path) -> None:
    """The user's file is looked for below XDG_CONFIG_HOME when that is an absolute path."""
    (tmp_path / "xdg/wsklab").mkdir(parents=True)
    (tmp_path / "xdg/wsklab/config.toml").write_text("workers = 7\n")

    assert load(tmp_path, environ={"XDG_CONFIG_HOME": str(tmp_path / "xdg")}).workers == 7


def test_lists_in_the_environment_are_comma_separated(tmp_path: Path) -> None:
    """A list is written with commas; blanks around its parts do not matter."""
    assert load(tmp_path, environ={"WSKLAB_GUESTS": "a, b,"}).guests == ("a", "b")


@pytest.mark.parametrize(
    ("text", "key", "nearest"),
    [("gests = ['a']", "gests", "guests"), ("worker = 1", "worker", "workers"), ("zzzzzz = 1", "zzzzzz", "")],
)
def test_unknown_key_in_a_file_names_the_nearest(tmp_path: Path, text: str, key: str, nearest: str) -> None:
    """An unknown key is an error with file, key and the nearest known key."""
    file = tmp_path / "wsklab.toml"
    file.write_text(text)

    with pytest.raises(ConfigError) as caught:
        load(tmp_path)

    assert caught.value.evidence == {"file": str(file), "key": key, "nearest": nearest}


def test_unknown_variable_names_the_nearest(tmp_path: Path) -> None:
    """A slip in a variable's name is an error that spells the nearest variable."""
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, environ={"WSKLAB_WORKRES": "1"})

    assert caught.value.evidence["nearest"] == "WSKLAB_WORKERS"


def test_internal_variables_are_not_settings(tmp_path: Path) -> None:
    """What the launcher hands on is passed over."""
    assert load(tmp_path, environ={"WSKLAB_INTERNAL_LAUNCHER": "/x/wsklab"}).workers == "auto"


@pytest.mark.parametrize(
    "environ",
    [
        {"WSKLAB_WORKERS": "many"},
        {"WSKLAB_WORKERS": "-1"},
        {"WSKLAB_MODE": "cloud"},
        {"WSKLAB_TIMEOUT_SCALE": "0"},
        {"WSKLAB_SUBNETS": "8.8.8.0/24"},
        {"WSKLAB_SUBNETS": "192.168.1.7/24"},
        {"WSKLAB_GUESTS": ""},
    ],
)
def test_values_that_do_not_fit(tmp_path: Path, environ: dict[str, str]) -> None:
    """A value outside its type or range is a ConfigError that names key and source."""
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, environ=environ)

    (name,) = environ
    assert (caught.value.evidence["key"], caught.value.evidence["file"]) == (
        name.removeprefix("WSKLAB_").lower(),
        "environment",
    )


@pytest.mark.parametrize("content", [b"workers = ", b"\xff\xfe", b"[workers]\n"])
def test_damaged_file(tmp_path: Path, content: bytes) -> None:
    """A file that is not TOML, not UTF-8, or of another shape is a ConfigError, never a traceback."""
    (tmp_path / "wsklab.toml").write_bytes(content)

    with pytest.raises(ConfigError):
        load(tmp_path)


def test_settings_are_frozen(tmp_path: Path) -> None:
    """Settings do not change after loading."""
    config = load(tmp_path)

    with pytest.raises(ValueError, match="frozen"):
        config.workers = 3


@pytest.mark.parametrize(
    ("mode", "environ", "expected"),
    [
        (ModeSetting.SYSTEM, {"XDG_DATA_HOME": "/data"}, "/var/lib/wsklab"),
        (ModeSetting.PRIVATE, {"XDG_DATA_HOME": "/data"}, "/data/wsklab"),
        (ModeSetting.PRIVATE, {"XDG_DATA_HOME": "relative"}, "/u/.local/share/wsklab"),
        (ModeSetting.PRIVATE, {}, "/u/.local/share/wsklab"),
    ],
)
def test_default_home(mode: ModeSetting, environ: dict[str, str], expected: str) -> None:
    """System mode keeps its store where QEMU's user can enter; otherwise XDG decides."""
    assert default_home(mode, environ, Path("/u")) == Path(expected)


def test_published_schema_is_current() -> None:
    """docs/config.schema.json is what the code says."""
    published = Path(__file__).parents[2] / "docs/config.schema.json"

    assert json.loads(published.read_text()) == config_schema()


def test_every_setting_is_documented() -> None:
    """Each setting has a description, and docs/configuration.md names it."""
    properties = config_schema()["properties"]
    page = (Path(__file__).parents[2] / "docs/configuration.md").read_text()

    assert [key for key, value in properties.items() if not value.get("description") or f"`{key}`" not in page] == []


@pytest.mark.parametrize(("text", "value"), [("auto", "auto"), ("0", 0), ("4", 4)])
def test_numbers_or_auto(tmp_path: Path, text: str, value: object) -> None:
    """From the environment and from options both are text."""
    assert load(tmp_path, environ={"WSKLAB_WORKERS": text}).workers == value
    assert load(tmp_path, environ={}, options={"workers": text}).workers == value


@pytest.mark.parametrize("text", ["many", "-1", "257", "1.5", ""])
def test_neither_a_number_nor_auto(tmp_path: Path, text: str) -> None:
    """Told with the setting's name and where it came from."""
    with pytest.raises(ConfigError, match="workers"):
        load(tmp_path, environ={}, options={"workers": text})


# -- other hosts ---------------------------------------------------------------------------------------------------


def _load(tmp_path: Path, text: str) -> LabConfig:
    (tmp_path / "wsklab.toml").write_text(text)
    return load_config(environ={}, folder=tmp_path, user_home=tmp_path)


@pytest.mark.parametrize(
    ("lines", "target"),
    [
        ('uri = "qemu+ssh://lab@rack1/system"', "lab@rack1"),
        ('uri = "qemu+ssh://rack1:2222/system"', "ssh://rack1:2222"),
        ('uri = "qemu+libssh2+ssh://a@b:9/system"', "ssh://a@b:9"),
        ('uri = "qemu+tls://rack1/system"\nssh = "me@rack1"', "me@rack1"),
    ],
)
def test_a_host_is_named_for_ssh_by_its_uri(tmp_path: Path, lines: str, target: str) -> None:
    """Who gives the URI of libvirt need not repeat the host."""
    (host,) = _load(tmp_path, f'[[hosts]]\nname = "rack1"\n{lines}\n').hosts
    assert (host.target, host.store) == (target, Path("/var/lib/wsklab"))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[[hosts]]\nname = "a"\nuri = "qemu+tls://rack1/system"', "give ssh as well"),
        ('[[hosts]]\nname = "local"\nuri = "qemu+ssh://a/system"', "this host's own name"),
        ('[[hosts]]\nname = "A b"\nuri = "qemu+ssh://a/system"', "hosts.0.name"),
        ('[[hosts]]\nuri = "qemu+ssh://a/system"', "hosts.0.name"),
        ('[[hosts]]\nname = "a"\nuri = "qemu+ssh://a/system"\n' * 2, "two hosts have the same name"),
        ('[[hosts]]\nname = "a"\nuri = "qemu+ssh://a/system"\nmemory_reserve = 3', "'memory_reserve'"),
    ],
)
def test_hosts_that_do_not_fit(tmp_path: Path, text: str, said: str) -> None:
    """The place in the table, or the mistake in words."""
    with pytest.raises(ConfigError) as caught:
        _load(tmp_path, text)
    assert said in caught.value.message


MACHINE = '[[machines]]\nname = "m"\nprofile = "ws2022"\naddress = "192.0.2.7"\n'


@pytest.mark.parametrize(
    ("text", "said", "fix"),
    [
        (MACHINE + "port = 0", "machines.0.port", "port of its SSH server"),
        (MACHINE + 'host_key = "any"', "ssh-keygen -l", "Which host key is accepted"),
        (MACHINE + 'power = {on = "pdu on 3"}', "machines.0.power.on", "Who switches it"),
        (MACHINE + "power = {on = [], timeout_s = 0}", "machines.0.power.timeout_s", "Who switches it"),
        (MACHINE.replace('name = "m"', 'name = "M 1"'), "machines.0.name", "Its name"),
        (MACHINE.replace('profile = "ws2022"', ""), "machines.0.profile", "guest profile"),
        (MACHINE * 2, "two machines have the same name", "Machines that exist already"),
    ],
)
def test_machines_that_do_not_fit(tmp_path: Path, text: str, said: str, fix: str) -> None:
    """File, key, and what the key wants."""
    with pytest.raises(ConfigError) as caught:
        _load(tmp_path, text)
    assert said in caught.value.message
    assert fix in caught.value.fix
    assert caught.value.evidence["file"] == str(tmp_path / "wsklab.toml")


@pytest.mark.parametrize(
    ("line", "key", "nearest"),
    [('adress = "x"', "machines.adress", "address"), ("power = {onn = []}", "machines.power.onn", "on")],
)
def test_an_unknown_key_of_a_machine_names_the_nearest(tmp_path: Path, line: str, key: str, nearest: str) -> None:
    """In the table, and in its power commands."""
    with pytest.raises(ConfigError) as caught:
        _load(tmp_path, MACHINE + line)
    assert caught.value.evidence["key"] == key
    assert caught.value.evidence["nearest"] == nearest


def test_a_power_cycle_is_its_own_command_or_two(tmp_path: Path) -> None:
    """`cycle`, else off and on; with only one of these there is none."""
    (machine,) = _load(tmp_path, MACHINE + 'power = {on = ["a"], off = ["b"]}').machines
    assert machine.power.cycling == (("b",), ("a",))
    (machine,) = _load(tmp_path, MACHINE + 'power = {on = ["a"], cycle = ["c"]}').machines
    assert machine.power.cycling == (("c",),)
    (machine,) = _load(tmp_path, MACHINE + 'power = {on = ["a"]}').machines
    assert machine.power.cycling == ()
    assert machine.host_key == "learn"


def test_an_unknown_key_of_a_host_names_the_nearest(tmp_path: Path) -> None:
    """As for settings at the top."""
    with pytest.raises(ConfigError) as caught:
        _load(tmp_path, '[[hosts]]\nname = "a"\nuri = "qemu+ssh://a/system"\nstroe = "/x"')
    assert caught.value.evidence["nearest"] == "store"
