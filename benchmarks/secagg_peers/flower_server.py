"""Flower's server: clients that stay connected, rounds of federated averaging in the clear.

Runs in an environment of its own, see `../_secagg_peers.py`; needs nothing of this project.

python flower_server.py server clients elements ADDRESS CERTIFICATES -> a line of JSON
python flower_server.py clients ADDRESS CA count elements
"""

import json
import pathlib
import signal
import sys
import threading
import time
from logging import ERROR, getLogger

import flwr
import numpy as np
from flwr.client import NumPyClient, start_client
from flwr.common import ndarrays_to_parameters
from flwr.server import ServerConfig, start_server
from flwr.server.strategy import FedAvg

ROUNDS = 4


def resident():
  return 4096 * int(pathlib.Path('/proc/self/statm').read_text(encoding='utf-8').split()[1])


class Measured(FedAvg):
  """Measures the server from the moment that all clients are there."""

  def __init__(self, **arguments):
    super().__init__(**arguments)
    self.before, self.waiting, self.cpu = resident(), 0, []

  def configure_fit(self, *arguments, **named):
    # Waits for the clients.
    found = super().configure_fit(*arguments, **named)
    self.waiting = self.waiting or resident()
    self._start = time.process_time()
    return found

  def aggregate_fit(self, *arguments, **named):
    found = super().aggregate_fit(*arguments, **named)
    self.cpu.append(time.process_time() - self._start)
    return found


def serve(clients, elements, address, certificates):
  folder = pathlib.Path(certificates)
  files = [(folder / one).read_bytes() for one in ('ca.pem', 'server.pem', 'server.key')]
  strategy = Measured(
    fraction_fit=1.0,
    fraction_evaluate=0.0,
    min_fit_clients=clients,
    min_available_clients=clients,
    initial_parameters=ndarrays_to_parameters([np.zeros(elements, np.float32)]),
  )
  start_server(
    server_address=address,
    config=ServerConfig(num_rounds=ROUNDS),
    strategy=strategy,
    certificates=tuple(files),
  )
  found = {
    'version': flwr.__version__,
    'kilobytes_a_client': round((strategy.waiting - strategy.before) / clients / 1e3, 1),
    # The first round has what comes with it.
    'cpu_seconds_server': round(sorted(strategy.cpu[1:])[(ROUNDS - 1) // 2], 3),
  }
  print(json.dumps(found), flush=True)


class Client(NumPyClient):
  """Sends its vector."""

  def __init__(self, elements):
    self._values = [np.arange(elements, dtype=np.float32)]

  def fit(self, parameters, config):
    return self._values, 1, {}


def take_part(address, ca, count, elements):
  # Each client would take the process's signals, which only its main thread may.
  signal.signal = lambda *_: None

  def run():
    start_client(
      server_address=address,
      client=Client(elements).to_client(),
      root_certificates=pathlib.Path(ca).read_bytes(),
    )

  threads = [threading.Thread(target=run) for _ in range(count)]
  for thread in threads:
    thread.start()
  for thread in threads:
    thread.join()


if __name__ == '__main__':
  getLogger('flwr').setLevel(ERROR)
  kind, *arguments = sys.argv[1:]
  if kind == 'server':
    clients, elements, address, certificates = arguments
    serve(int(clients), int(elements), address, certificates)
  else:
    address, ca, count, elements = arguments
    take_part(address, ca, int(count), int(elements))
