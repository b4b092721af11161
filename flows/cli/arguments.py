"""Arguments that several commands share, and types of arguments, which say what is wrong with one."""

import argparse

CONFIG_HELP = "a YAML file, or the name of a config that ships, such as demo"
NEW_RUN_HELP = "name of the run folder under runs/; default: the config's name"


def filled(text: str) -> str:
    """Return a name that was given: an empty one, of a shell's variable that is not set, never means the default."""
    if not text.strip():
        raise argparse.ArgumentTypeError("the name is empty; give one, or leave the option out for the default")
    return text


def port(text: str) -> int:
    """Return a number from 1 to 65535."""
    if not text.isdecimal() or len(text) > 5 or not 1 <= int(text) <= 65_535:
        raise argparse.ArgumentTypeError(f"'{text[:40]}' is no port: a number from 1 to 65535")
    return int(text)


def port_or_any(text: str) -> int:
    """Return a port, or 0, which stands for any that is free."""
    return 0 if text == "0" else port(text)


def with_config(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    """Add which config a run is of, the run's name, and what may change."""
    parser.add_argument("config", metavar="CONFIG", type=filled, help=CONFIG_HELP)
    parser.add_argument("--run", metavar="NAME", type=filled, help=NEW_RUN_HELP)
    return with_changes(with_set(parser))


def with_set(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    """Add settings that replace the config's."""
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="overrides",
                        help="override a config value, as in --set train.max_length=1024; may be repeated")
    return parser


def with_changes(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    """Add what becomes of finished work whose settings have changed."""
    group = parser.add_mutually_exclusive_group()
    group.add_argument("--keep", dest="on_change", action="store_const", const="keep", default="stop",
                       help="go on with finished work as it is, though its settings have changed")
    group.add_argument("--discard", dest="on_change", action="store_const", const="discard",
                       help="delete finished work whose settings have changed, and do it again")
    return parser
