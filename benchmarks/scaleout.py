"""Rounds of 100 to 10,000 clients on a Dask cluster of network namespaces; a worker is killed.

python benchmarks/scaleout.py [--quick] [--json FILE]    # Linux with unprivileged user namespaces

Hosts are namespaces of one machine: what is measured is what the head of a cluster takes, and a
model (`_scaleout_model.py`) says what follows for hosts of their own.
"""

import argparse
import dataclasses
import importlib.metadata
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time

import _scaleout_model as model
import _scaleout_net as net
import numpy as np
from _scaleout_cluster import LINK, Coordinator, Machines, cpu_of

WORKERS = 4
# Clients and version of the protocol; of each version the largest last.
ROUNDS = ((1000, 2), (10_000, 2), (100, 1), (1000, 1), (10_000, 1))
# Of the clients' work alone: workers, clients, megabits a second, milliseconds. Links so slow that
# the hosts wait for them and not for the cores that they share.
FIT = (
  (2, 300, 100, 150),
  (2, 300, 100, 300),
  (2, 300, 2, 5),
  (4, 600, 100, 300),
  (4, 600, 3, 5),
  (4, 300, 100, 400),
)
CHECK = ((2, 600, 100, 200), (4, 400, 2, 5), (4, 600, 4, 250))
KILLED = 1000
# What is asked of the model: clients, hosts of a worker each, megabits, milliseconds.
ASKED = (10_000, 100, 1000, 0.5)
IDLE_SECONDS = 10


def work_alone(machines):
  """Cells of the clients' work without the protocol."""
  cells = []
  for count in sorted({workers for workers, *_ in FIT}):
    machines.add(count - len(machines.workers))
    with machines.coordinator() as coordinator:
      for workers, *rest in (*FIT, *CHECK):
        if workers == count:
          cells.append(told(machines.cell(coordinator, *rest)))
  before = cpu_of(machines.scheduler)
  time.sleep(IDLE_SECONDS)
  idle = (cpu_of(machines.scheduler) - before) / IDLE_SECONDS / WORKERS
  return {'cells': cells, 'scheduler_idle_cpu_ms_a_worker_and_second': round(1e3 * idle, 2)}


def rounds(machines, sizes):
  """Whole rounds, one of them with a worker that is killed, and the models of one process."""
  machines.add(WORKERS - len(machines.workers))
  cells = []
  for clients, version in sizes:
    with machines.coordinator() as coordinator:
      cells.append(told(machines.cell(coordinator, clients, version=version, **LINK)))
  (whole,) = (one for one in cells if (one['clients'], one['version']) == (KILLED, 1))
  half = 500 * KILLED * whole['kilobytes_a_client']['from workers']
  with machines.coordinator() as coordinator:
    killed = told(machines.cell(coordinator, KILLED, version=1, kill_after=half, **LINK))
  models = {}
  with Coordinator(subprocess.Popen, 'here', machines.log) as here:
    for clients in sorted({clients for clients, _ in sizes}):
      here.ask(clients, 1)
      models[clients] = here.answer()['model']
  return {
    'cells': cells,
    'worker_killed': {'after_kilobytes_from_workers': round(half / 1e3), **killed},
    'models_equal_bit_for_bit': all(
      one['model'] == models[one['clients']] for one in (*cells, killed)
    ),
  }


def told(value):
  print(json.dumps(value), flush=True)
  return value


def cost_model(found):
  """Fits the model to the cells of `FIT` and holds it against the others."""
  cells, whole = found['work']['cells'], found['rounds']['cells']
  cores = found['work']['environment']['cores']
  sizes = np.array([[one['clients'], one['workers']] for one in cells], float)
  moved = [1e3 * one['clients'] * one['kilobytes_a_client']['to workers'] for one in cells]
  (down, each), *_ = np.linalg.lstsq(sizes, np.array(moved), rcond=None)

  def cell_of(one):
    spent = {name: value / 1e3 for name, value in one['cpu_ms_a_client'].items()}
    return model.Cell(
      clients=one['clients'],
      workers=one['workers'],
      rate=one['megabits'] * 1e6 / 8,
      latency=one['milliseconds'] / 1e3,
      cores=cores,
      work=spent['workers'],
      scheduler=spent['scheduler'],
      head=spent['coordinator, while clients work'],
      protocol=spent['coordinator, before and after'],
      other=spent['relays'],
      down=float(down),
      up=1e3 * one['kilobytes_a_client']['from workers'],
      each=float(each),
    )

  def place(one):
    return tuple(one[name] for name in ('workers', 'clients', 'megabits', 'milliseconds'))

  fitted = [one for one in cells if place(one) in FIT]
  fixed, trips = model.fit(
    [cell_of(one) for one in fitted], [one['wall_seconds'] for one in fitted]
  )

  def held_against(one):
    seconds, limit = model.predict(cell_of(one), fixed, trips)
    return {
      **{name: one[name] for name in ('version', 'workers', 'clients', 'megabits', 'milliseconds')},
      'measured_seconds': one['wall_seconds'],
      'predicted_seconds': round(seconds, 2),
      'limit': limit,
    }

  clients, hosts, megabits, milliseconds = ASKED
  asked = {}
  one_of = {'work': max(cells, key=lambda one: (one['workers'], one['clients'], one['megabits']))}
  for version in (1, 2):
    one_of[f'version {version}'] = [one for one in whole if one['version'] == version][-1]
  for name, one in one_of.items():
    cell = dataclasses.replace(
      cell_of(one),
      clients=clients,
      workers=hosts,
      rate=megabits * 1e6 / 8,
      latency=milliseconds / 1e3,
      cores=None,
    )
    seconds, limit = model.predict(cell, fixed, trips)
    needed = model.seconds_by_resource(cell, trips)
    rest = max(value for resource, value in needed.items() if resource != 'workers')
    asked[name] = {
      'predicted_seconds': round(seconds, 1),
      'limit': limit,
      'seconds_by_resource': {resource: round(value, 2) for resource, value in needed.items()},
      'protocol_before_and_after_seconds': round(clients * cell.protocol, 1),
      'hosts_kept_busy': round(clients * cell.work / rest, 1),
      'work_of_a_client_that_keeps_all_busy_seconds': round(hosts * rest / clients, 3),
    }
  return {
    'fixed_seconds': fixed,
    'trips_of_a_part': trips,
    'bytes_to_a_worker': round(float(each)),
    'bytes_to_workers_a_client': round(float(down)),
    'fitted': [held_against(one) for one in fitted],
    'checked': [held_against(one) for one in cells + whole if place(one) not in FIT],
    'asked': {
      'clients': clients,
      'hosts': hosts,
      'megabits': megabits,
      'milliseconds': milliseconds,
      **asked,
    },
  }


def main():
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--only', nargs='*', choices=('work', 'rounds'), default=('work', 'rounds'))
  parser.add_argument('--quick', action='store_true', help='no rounds of 10,000 clients')
  parser.add_argument('--json', help='file to write; parts that are not run are kept')
  args = parser.parse_args()
  net.enter()
  found = {}
  if args.json and pathlib.Path(args.json).exists():
    found = json.loads(pathlib.Path(args.json).read_text(encoding='utf-8'))
  sizes = [one for one in ROUNDS if one[0] < 10_000 or not args.quick]
  with tempfile.NamedTemporaryFile('w+') as log:
    machines = Machines(log)
    runs = {'work': lambda: work_alone(machines), 'rounds': lambda: rounds(machines, sizes)}
    try:
      for name in args.only:
        load = [round(one, 2) for one in os.getloadavg()]
        found[name] = {'load_average': load, **runs[name]()}
    except SystemExit:
      print(pathlib.Path(log.name).read_text(encoding='utf-8')[-4000:], file=sys.stderr)
      raise
  # Imports TensorFlow, whose memory a round of 10,000 clients may need.
  from _measure import environment, write_json

  for name in args.only:
    load = found[name].pop('load_average')
    versions = environment() | {
      'dask': importlib.metadata.version('distributed'),
      'load_average': load,
    }
    found[name] = {'environment': versions, **found[name]}
  if found.keys() >= runs.keys():
    found['cost_model'] = told(cost_model(found))
  write_json(args.json, found)


if __name__ == '__main__':
  main()
