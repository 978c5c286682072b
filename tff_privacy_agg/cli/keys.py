"""`tff-privacy-agg keys`: certificates and identities for a test deployment."""

import argparse
import json
import pathlib

from tff_privacy_agg._wording import counted
from tff_privacy_agg.cli import _flags

_EXAMPLES = """example:
  tff-privacy-agg keys keys north south east --host server.example.org
"""


def add(commands: _flags.Commands) -> None:
  """Adds the command to the parser."""
  keys = commands.add_parser(
    'keys',
    help='make keys for `serve` and `client`, for tests',
    epilog=_EXAMPLES,
  )
  keys.set_defaults(run=_keys)
  keys.add_argument('directory', type=pathlib.Path, help='where they go; must be empty')
  keys.add_argument('clients', nargs='+', help='names of the clients')
  keys.add_argument(
    '--host',
    dest='hosts',
    metavar='HOST',
    action='append',
    help='name or address of the server (default: this machine)',
  )
  keys.add_argument('--days', type=int, default=90, help='how long they are valid')
  keys.add_argument('--json', action='store_true', help='where they are, for machines')


def _keys(args: argparse.Namespace) -> int:
  from tff_privacy_agg.deployment import make_keys
  from tff_privacy_agg.deployment.keys.tls import Expiry

  hosts = args.hosts or ('localhost', '127.0.0.1')
  where = make_keys(args.directory, args.clients, hosts=hosts, days=args.days)
  expires = str(Expiry(str(where / 'ca.pem'), str(where / 'server.pem')))
  if args.json:
    made = {'clients': args.clients, 'days': args.days, 'certificates_expire': expires}
    print(json.dumps({'keys': str(where), **made}))
    return 0
  print(
    f'{where}: keys of a server and {counted(len(args.clients), "client")}, valid for '
    f'{counted(args.days, "day")}, until {expires}'
  )
  print('Whoever made them can act as anyone: for tests, or a group that trusts the maker.')
  return 0
