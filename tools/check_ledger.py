"""A second checker of privacy ledgers: `python tools/check_ledger.py LEDGER`.

It shares no code with the package, and follows docs/ledger.md, docs/accounting.md and
docs/proofs/discrete-gaussian.md. The price that a header states is taken as it is.
Exit code: 0 if all agrees, 1 if something differs, 2 if there is no ledger to check.
"""

import collections
import functools
import hashlib
import json
import math
import pathlib
import sys
from fractions import Fraction

import mpmath

mpmath.mp.dps = 40  # delta is a difference of numbers near 1
UNIT, INFINITE = 2**48, 2**62  # mu^2, C1, C2 are integers in units of 1/UNIT
TOTALLED = ('charge', 'settle', 'unopened', 'recovered')
SHARED = ('mechanism', 'adjacency', 'holds_against_server')
EARLIER = 'schema 1 and 2 priced rounds otherwise: of this ledger the chain alone was checked'
CLAIMED = 'release: claimed sampling and top-ups are not derived here; see `verify`'
sha256 = lambda data: hashlib.sha256(data).hexdigest()
# `w(s^2) = 2 sum_k exp(-2 pi^2 s^2 k^2)` of the proof.
gap = lambda s2: 2 * math.fsum(math.exp(-2 * math.pi**2 * s2 * k * k) for k in range(1, 30))


def unseal(raw):
  """The record of a line; None unless it carries its own hash."""
  body, _, seal = raw.rpartition(b',"sha256":"')
  return json.loads(body + b'}') if seal == sha256(body + b'}').encode() + b'"}' else None


def begun(partial):
  """The event of a line that was cut off."""
  words = partial.split(b'"')
  return words[3].decode() if words[1:2] == [b'event'] and len(words) > 4 else 'unknown'


def read_chain(path, problems):
  """The records of a file whose chain is checked; the last one is of a line that was cut off."""
  records, hashes, torn = [], ['0' * 64], []
  for raw in path.read_bytes().removesuffix(b'\n').split(b'\n'):
    record = unseal(raw)
    if record is None:
      torn.append(raw)
      continue
    follows, due = record['previous'], True
    if torn:  # only a line that says so may stand after what was cut off
      partial, torn, follows = b'\n'.join(torn), [], record.get('follows')
      stated = [record.get(name) for name in ('event', 'previous', 'was', 'partial_bytes')]
      due = stated == ['recovered', sha256(partial), begun(partial), len(partial)]
    if not due or (record['seq'], follows) != (len(records), hashes[-1]):
      problems.append(f'line {len(hashes)}: a line was changed, removed, added or moved before it')
    records.append(record)
    hashes.append(sha256(raw))
  if torn and (torn[0].endswith(b'"}') or not all(begun(x) == 'recovered' for x in torn[1:])):
    problems.append('the end: a line was changed')
  head = path.with_name(f'{path.name}.head')
  if head.exists() and head.read_text():
    number, digest = head.read_text().split()
    if hashes[int(number) + 1 :][:1] != [digest] and not (torn and int(number) == len(records)):
      problems.append(f'{head.name}: its line is not in the ledger')
  return records + [{'event': 'recovered', 'was': begun(one)} for one in torn[:1]]


@functools.cache
def of_sum(share, shares):
  """`h` of the proof, infinite where a gap is 1 or more, and `tau` of accounting.md."""
  parts = [share * k / (k + 1) for k in range(1, shares)]
  h = [math.log1p(w) - math.log1p(-w) if w < 1 else math.inf for w in map(gap, parts)]
  return math.fsum(h), 10 * math.fsum(math.exp(-2 * math.pi**2 * part) for part in parts)


def moved(vector, f):
  """What a participation moves: squared norm, L1 norm, coordinates; and the noise it moves in."""
  squared, dimension = f**2 * vector['l2_squared'], vector['dimension']
  steps, whole = vector.get('steps', [2**24]), math.floor(squared)
  column = sum(step**2 for step in steps) * whole
  rounded = (len(steps) - 1) * min(dimension, whole) * 2**48
  if rounded:
    squared = (column + rounded + math.isqrt(4 * column * rounded)) >> 48
    dimension = len(steps) * min(dimension, whole)
  return squared, f * vector['l1'], dimension, vector['local_variance'], vector['t_squared']


class Kind:
  """Rounds that rest on the same facts: what one of them costs, and how many there are."""

  def __init__(self, facts):
    self.stack, self.fewest = facts['stack'], facts['minimum_clients'] or 1
    price = self.stack['price']
    self.mechanism, self.maximum, vectors = (price[x] for x in ('mechanism', 'maximum', 'vectors'))
    self.distributed = self.mechanism in ('discrete_gaussian', 'skellam')
    self.colluding = Fraction(str(float(self.stack['cohort']['colluding_fraction'])))
    f = {'zero_out': 1, 'add_or_remove_one': 1, 'replace_one': 2}[price['adjacency']]
    self.z = Fraction(price['central_multiplier']) / f
    self.minimum, self.vectors = price['minimum'], [moved(v, f) for v in vectors]
    draws = (v['dimension'] * len(v.get('steps', [1])) * v['draw_distance'] for v in vectors)
    draws = math.fsum(draws) * (1 + 2**-48)
    self.distance = lambda shares: draws * (shares if self.distributed else 1)
    self.honest = lambda survivors: survivors - math.floor(self.colluding * survivors)
    self.waiting, self.settled = 0, collections.Counter()  # at the charge; by honest clients
    self.cost = functools.cache(self.parts)

  def parts(self, fewest, most, orders):
    """What a round costs at most, part by part, with `fewest` to `most` honest clients."""
    fewest, most = (fewest, most) if self.distributed else (1, 1)
    if orders is None:
      return self.mu_parts(fewest, most)
    # More shares cost less, but for narrow ones; in floating point no wider one has a tau.
    narrow = self.mechanism == 'discrete_gaussian' and any(v[3] < 76 for v in self.vectors)
    tried = range(fewest, most + 1) if narrow else [fewest]
    return tuple(max(self.divergence(shares, a) for shares in tried) for a in orders)

  def mu_parts(self, fewest, most):
    """mu^2, C1 and C2, each rounded up to an integer."""
    if self.mechanism == 'gaussian' and self.z:
      return math.ceil(UNIT / self.z**2), 0, 0
    total = [Fraction(0)] * 3
    for squared, _, dimension, share, t_squared in self.vectors:
      left = fewest * Fraction(share) - Fraction(t_squared or 0)
      rounded, whole, h = gap(t_squared or 0), gap(fewest * share), of_sum(share, most)[0]
      if left <= 0 or max(rounded, whole) >= 1 or h == math.inf:
        return (INFINITE,) * 3
      coordinates = min(dimension, math.floor(squared)) * Fraction(1 + 1e-9)
      total[0] += math.floor(squared) / left
      total[1] += coordinates * Fraction(h + math.log1p(rounded))
      total[2] += coordinates * Fraction(h + math.log1p(whole) - math.log1p(-rounded))
    return tuple(min(math.ceil(x * UNIT), INFINITE) if self.vectors else INFINITE for x in total)

  def orders(self):
    """None for the mu account; else those of Renyi's, integers for Skellam noise."""
    mu_squared, c1, c2 = self.cost(self.minimum, self.maximum, None)
    wide = all(share >= 4 for *_, share, _ in self.vectors) and mu_squared < INFINITE
    if self.mechanism == 'none' or (wide and 8 * (c1 + c2) <= mu_squared):
      return None
    if self.mechanism == 'skellam':
      return tuple(sorted({*range(2, 21), *(round(20 * 204.8 ** (i / 79)) for i in range(80))}))
    return tuple(1 + 0.02 * (4095 / 0.02) ** (i / 99) for i in range(100))

  def divergence(self, shares, a):
    """Renyi divergence of order `a` of a round with so many unknown shares."""
    total = 0.0 if self.vectors else float(a / (2 * self.z**2)) if self.z else math.inf
    for squared, l1, dimension, share, t_squared in self.vectors:
      variance = shares * share
      exact = a * squared / (2 * variance)
      if self.mechanism == 'skellam':
        extra = ((2 * a - 1) * squared + 6 * l1) / (4 * variance**2)
        total += min(extra, 3 * l1 / (2 * variance))
      if self.mechanism == 'discrete_gaussian':
        h, tau = of_sum(share, shares)
        of_h = (2 * a - 1) / (a - 1) * min(dimension, math.floor(squared)) * h * (1 + 1e-9)
        norms = squared / variance + 2 * l1 * tau / math.sqrt(variance) + tau**2 * dimension
        both = (math.sqrt(squared / variance) + tau * math.sqrt(dimension)) ** 2
        tight = exact + of_h if t_squared is not None else math.inf
        exact = min(exact + tau * dimension, a / 2 * norms, a / 2 * both, tight)
      total += exact
    return total


def root(law, slope, exp, delta, distance):
  """Least e >= 0 with law(e) + (1 + e^e) distance <= delta, before that rises; else infinite."""
  ends = lambda e: (law(e) + (1 + exp(e)) * distance <= delta, slope(e) <= exp(e) * distance)
  low = high = 0.0
  while not any(ends(high)):
    low, high = high, 2 * high + 1
  for _ in range(60 if high else 0):
    middle = (low + high) / 2
    low, high = (low, middle) if any(ends(middle)) else (middle, high)
  return high if ends(high)[0] else math.inf


@functools.cache
def epsilon(total, orders, delta, distance):
  """Epsilon of a total in the mu account (no orders) or the Renyi account."""
  if not total:
    return 0.0
  if orders is None and max(total) < INFINITE:
    mu_squared, c1, c2 = (mpmath.mpf(part) / UNIT for part in total)
    mu, exp = mpmath.sqrt(mu_squared) or mpmath.mpf('1e-30'), mpmath.exp
    far = lambda e: exp(e - c2) * mpmath.ncdf(-mu / 2 - (e - c1 - c2) / mu)
    law = lambda e: exp(c1) * mpmath.ncdf(mu / 2 - (e - c1 - c2) / mu) - far(e)
    return root(law, far, exp, delta * (1 - mpmath.mpf('1e-9')), distance)
  best, exp = math.inf, lambda x: math.exp(min(x, 700.0))
  for a, divergence in zip(orders or (), total, strict=bool(orders)):
    level = (a - 1) * (divergence + math.log1p(-1 / a)) - math.log(a)
    e = max(0.0, (level - math.log(delta * (1 - 1e-12))) / (a - 1))
    if e < best and distance * (1 + exp(e)) > 1e-12 * delta:
      law = lambda e, a=a, level=level: exp(level - (a - 1) * e)
      e = root(law, lambda e, a=a, law=law: (a - 1) * law(e), exp, delta, distance)
    best = min(best, e)
  return best


class Rounds:
  """All rounds so far."""

  def __init__(self, facts):
    self.kinds, self.chained = {0: Kind(facts)}, 'separation' in facts['stack']['price']
    self.capped = self.chained or facts['participation_cap'] is not None
    self.began, self.last, self.before, self.lost = 0, -1, -1, False  # since the noise restarted
    self.orders = self.kinds[0].orders()
    self.open, self.cut_off, self.most, self.broken = {}, [], 0, False
    self.worst = lambda kind: kind.honest(1 if self.broken else kind.fewest)

  def apply(self, line):
    """Takes a line; whether it can follow the lines before it."""
    event = line['event']
    if event == 'charge':
      kind, named = self.kinds[line.get('facts', 0)], line['most_participations']
      agree = line['honest_at_worst'] == self.worst(kind) and (named or self.most) >= self.most
      self.most = named or self.most + self.capped
      if self.chained:  # no round is drawn from noise that another one may have released
        again = self.lost or line['round'] <= self.last or any(x > self.began for x in self.open)
        agree = agree and named and not again
        self.last, self.before = line['round'], self.last
      self.open[line['seq']] = kind, line['round'], line['most_survivors'] or kind.maximum
      kind.waiting += 1
    elif event == 'settle':
      kind, number, most = self.open.pop(line['of'])
      survivors, honest = line['survivors'], line['honest']
      by_runtime = line['survivors_counted_by'] == 'runtime'
      admitted = min(kind.honest(survivors), survivors if by_runtime else self.worst(kind))
      agree = line['round'] == number and survivors <= min(most, kind.maximum)
      agree = agree and 1 <= honest <= admitted
      self.broken |= survivors < kind.fewest or honest < self.worst(kind)
      kind.waiting -= by_runtime
      kind.settled.update([honest] * by_runtime)
    elif event == 'unopened':
      self.open.pop(line['of'])[0].waiting -= 1
      self.last = self.before if line['of'] > self.began else self.last
      agree = line['mode'] == 'semi_honest'
    elif event == 'facts':
      kind, first = Kind(line['facts']), self.kinds[0]
      agree = not self.capped and kind.colluding == first.colluding
      for name in (*SHARED, 'public'):
        agree = agree and kind.stack[name] == first.stack[name]
      self.kinds[line['seq']], self.orders = kind, self.orders or kind.orders()
    elif event == 'restarted':
      agree, self.began, self.last, self.lost = self.chained, line['seq'], -1, False
    else:
      agree = event in ('recovered', 'unaccounted', 'note')
      if event == 'recovered' and line['was'] in ('charge', 'unknown'):
        self.cut_off.append(len(self.kinds))
        self.lost = True
    return agree

  def spent(self):
    """What the rounds of one client cost, and the distance of their noise; () for no rounds."""
    kinds = list(self.kinds.values())
    worst = [kind.cost(self.worst(kind), kind.maximum, self.orders) for kind in kinds]
    distances = [kind.distance(kind.maximum) for kind in kinds]
    # Rounds, what each costs, and its distance. What was cut off was of a kind known then.
    parts = [[1, [*map(max, *worst[:n], worst[0])], max(distances[:n])] for n in self.cut_off]
    for kind, cost, distance in zip(kinds, worst, distances, strict=True):
      parts.append([kind.waiting, cost, distance])
      for honest, count in sorted(kind.settled.items()):
        parts.append([count, kind.cost(honest, honest, self.orders), kind.distance(honest)])
    rounds, moved = sum(part[0] for part in parts), math.fsum(part[0] * part[2] for part in parts)
    if self.capped:
      paid = min(rounds, self.most + len(self.cut_off))
      moved = paid * distances[0]
      if paid < rounds:  # the dearest; each at least as dear as those after it
        for later, part in zip(parts[:0:-1], parts[-2::-1], strict=True):
          part[1] = list(map(max, part[1], later[1]))
      for part in parts:
        part[0], paid = min(part[0], paid), paid - min(part[0], paid)
    costs = [[count * part for part in cost] for count, cost, _ in parts if count]
    return tuple(map(sum, zip(*costs, strict=True))), moved


def check(path):
  """What contradicts a ledger, what was not derived, and by view: epsilon, and what differs."""
  problems, remarks, views = [], [], {}
  records = read_chain(path, problems)
  header = records[0] if records else {}
  if header.get('event') != 'header' or header['schema'] not in (1, 2, 3):
    raise ValueError('its first line is no header of schema 1 to 3 with its own hash')
  if header['schema'] < 3:
    return problems, [EARLIER], views
  facts, line, stack = header['facts'], header, header['facts']['stack']
  private = {'server': stack['holds_against_server'], 'release': stack['mechanism'] != 'none'}
  if facts['sampling']['kind'] != 'none' or stack.get('top_up') is not None:
    remarks, private = [CLAIMED], {'server': private['server']}
  try:
    rounds = Rounds(facts)
    stated = [stack['price'][name] for name in SHARED], header['accounts']['server']
    if stated != ([stack[name] for name in SHARED], 'renyi' if rounds.orders else 'gaussian'):
      problems.append('line 1: its price, stack and account contradict one another')
    for line in records:
      if line is not header and not rounds.apply(line):
        raise ValueError
      total, moved = rounds.spent()
      for view, promised in private.items():
        found = views.setdefault(view, [0.0, []])
        found[0] = epsilon(total, rounds.orders, facts['delta'], moved) if promised else math.inf
        stated = line['total'][view] if line['event'] in TOTALLED and 'seq' in line else found[0]
        if not math.isclose(float(stated), found[0], rel_tol=1e-9, abs_tol=1e-12):
          found[1].append(f'line {line["seq"] + 1} states {stated}, its rounds give {found[0]}')
  except (ArithmeticError, LookupError, TypeError, ValueError):
    problems.append(f'line {line["seq"] + 1}: lacks something, or cannot follow those before it')
  return problems, remarks, views


def main(arguments):
  """Prints what was found; returns the exit code."""
  try:
    problems, remarks, views = check(pathlib.Path(' '.join(arguments)).resolve())
  except (LookupError, OSError, TypeError, ValueError) as error:
    print('No ledger to check at', *arguments, f': {error}', file=sys.stderr)
    return 2
  for view, (value, differ) in views.items():
    print(f'{view}: epsilon {value:.10g},', '; '.join(differ[:3]) or 'agrees')
  print(*remarks, *problems, sep='\n', end='\n' if remarks or problems else '')
  return int(any([problems, *(differ for _, differ in views.values())]))


if __name__ == '__main__':
  sys.exit(main(sys.argv[1:]))
