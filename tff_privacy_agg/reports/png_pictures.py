"""The pictures that an audit leaves, inside the page: a report loads nothing."""

import base64

from tff_privacy_agg.errors import ConfigurationError
from tff_privacy_agg.reports import drawing
from tff_privacy_agg.reports.markup import Html, element

_SIGNATURE = b'\x89PNG\r\n\x1a\n'
_END = b'IEND\xaeB`\x82'
_MOST_BYTES = 1_000_000


def embedded(key: str, content: bytes, caption: str) -> Html:
  """A PNG file as a figure; its words alone where it is too large for a page.

  Args:
    key: Name of the figure in the page.
    content: The file.
    caption: What it shows, also for those who do not see it.

  Raises:
    ConfigurationError: If it is no PNG file, or an incomplete one.
  """
  if not (content.startswith(_SIGNATURE) and content.endswith(_END)):
    raise ConfigurationError(
      f'The picture {key!r} of an audit is not a complete PNG file. Run the audit again.'
    )
  if len(content) > _MOST_BYTES:
    return element('p', f'{caption} (left out: {len(content):,} bytes)', class_='missing')
  data = f'data:image/png;base64,{base64.b64encode(content).decode("ascii")}'
  return drawing.figure(
    key, caption, element('img', src=data, alt=caption, class_='picture'), class_='picture'
  )
