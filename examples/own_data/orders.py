"""One's own data and model: a CSV file that a column splits among clients, and a Keras model."""

import collections
import csv
import pathlib

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff

from tff_privacy_agg.learning.data import FederatedExamples

FEATURES = ['price', 'delay', 'items']
HELD_OUT = 10  # of the shops; they take part in no round


def load():
  shops = collections.defaultdict(list)
  with (pathlib.Path(__file__).parent / 'orders.csv').open(newline='') as file:
    for row in csv.DictReader(file):
      shops[row['shop']].append(row)
  names = sorted(shops)
  held_out = [row for name in names[:HELD_OUT] for row in shops[name]]
  clients = {name: examples(shops[name]) for name in names[HELD_OUT:]}
  return FederatedExamples(
    train=tff.simulation.datasets.TestClientData(clients),
    test_x=examples(held_out)['x'],
    test_y=examples(held_out)['y'],
  )


def examples(rows):
  return collections.OrderedDict(
    x=np.array([[row[name] for name in FEATURES] for row in rows], np.float32),
    y=np.array([[row['returned']] for row in rows], np.float32),
  )


def model():
  keras = tf.keras.Sequential(
    [
      tf.keras.layers.InputLayer(input_shape=[len(FEATURES)]),
      tf.keras.layers.Dense(8, activation='relu'),
      tf.keras.layers.Dense(1, activation='sigmoid'),
    ]
  )
  return tff.learning.models.from_keras_model(
    keras,
    loss=tf.keras.losses.BinaryCrossentropy(),
    metrics=[tf.keras.metrics.BinaryAccuracy(name='accuracy'), tf.keras.metrics.AUC(name='auc')],
    input_spec=collections.OrderedDict(
      x=tf.TensorSpec([None, len(FEATURES)]), y=tf.TensorSpec([None, 1])
    ),
  )
