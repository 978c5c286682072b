"""`python -m tff_privacy_agg.accounting.conformance FILE`."""

import sys

from tff_privacy_agg.accounting.conformance import main

sys.exit(main())
