"""Real data as federated client data, without a download."""

from tff_privacy_agg.data.digits import FederatedExamples, load_digits

__all__ = ['FederatedExamples', 'load_digits']
