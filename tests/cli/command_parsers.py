"""The parsers of all commands, by name."""

import argparse

from tff_privacy_agg import cli


def commands():
  (actions,) = (a for a in cli.parser()._actions if isinstance(a, argparse._SubParsersAction))
  return actions.choices
