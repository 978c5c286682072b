"""Writes orders.csv: 60 shops with 20 orders each; whether an order was sent back depends on price and delay.

python make_orders.py
"""

import csv
import pathlib
import random

SHOPS, ORDERS = 60, 20


def main():
  chance = random.Random(1)
  rows = []
  for shop in range(SHOPS):
    dearer = chance.gauss(0.0, 0.5)  # shops differ
    for _ in range(ORDERS):
      price, delay, items = chance.gauss(dearer, 1.0), chance.gauss(0.0, 1.0), chance.randint(1, 5)
      returned = 1.5 * price + delay - 0.3 * (items - 3) + chance.gauss(0.0, 0.5) > 0
      rows.append([f'shop {shop:02d}', f'{price:.2f}', f'{delay:.2f}', items, int(returned)])
  with (pathlib.Path(__file__).parent / 'orders.csv').open('w', newline='') as file:
    writer = csv.writer(file, lineterminator='\n')
    writer.writerow(['shop', 'price', 'delay', 'items', 'returned'])
    writer.writerows(rows)


if __name__ == '__main__':
  main()
