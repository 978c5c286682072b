"""A runtime under the real protocol that keeps what each client sends to it."""

from tff_privacy_agg.runtime import SecAggContext, executors


class _Recording(executors.LocalExecutor):
  def run(self, form, data, broadcast):
    self.results = {}
    for client, result in super().run(form, data, broadcast):
      self.results[client] = form.split(result).inputs
      yield client, result


def recording_context(drops, **session) -> SecAggContext:
  """A context whose `_executor.results` are the inputs of each client's sums, in the clear."""
  made = SecAggContext(drops=drops, dropout_fraction=0.3, **session)
  made._executor = _Recording(made._inner)
  return made
