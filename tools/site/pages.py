"""MkDocs' hooks: the repository as a site in which each page keeps its path.

A link that works on a code host works here, and `mkdocs build --strict` checks it. Notebooks, folders
and source files to which pages link become pages.
"""

import logging
import pathlib
import posixpath
import re
import sys
from collections.abc import Callable
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files, InclusionLevel
from mkdocs.structure.pages import Page

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import notebook_pages  # a hook is no module of a package

ROOT = pathlib.Path(__file__).parents[2]
WRITTEN = ('*.md', 'docs/**/*.md', 'benchmarks/*.md', 'examples/**/*.md')
FOLDERS = ('docs/proofs', 'docs/decisions', 'notebooks', 'benchmarks/results')
STYLE = 'assets/site.css'
_FENCE = re.compile(r'^(```+)([^\n]*)\n(.*?)^\1$', re.DOTALL | re.MULTILINE)
_LINK = re.compile(r'(?<=\]\()([^)\s#]*)(#[^)\s]*)?(?=\))')
_LIST_AFTER_TEXT = re.compile(
  r'^((?! *[*-] | *\d+\. |#|\|)\S.*\n)(?=(?:[*-]|\d+\.) )', re.MULTILINE
)
_NAME = re.compile(r'(?<![\[`])`tpa\.([\w.]+)[^`\n]*`(?![\]`])')
_LANGUAGES = {'.py': 'python', '.toml': 'toml', '.json': 'json'}
_log = logging.getLogger('mkdocs.site')
_outside: set[str] = set()
_documented: set[str] = set()


def on_config(config: MkDocsConfig) -> MkDocsConfig:
  """Puts all pages of a folder where the navigation names the folder."""
  config.nav = _expanded(config.nav)
  return config


def _expanded(nav: Any) -> Any:
  if isinstance(nav, list):
    return [_expanded(item) for item in nav]
  if isinstance(nav, dict):
    return {title: _expanded(item) for title, item in nav.items()}
  if nav.endswith('/'):
    return [f'{nav}index.md', *(_path(page) for page in sorted((ROOT / nav).glob('*.md')))]
  return nav


def on_files(files: Files, config: MkDocsConfig) -> Files:
  """Replaces MkDocs' own choice by the pages of the repository, and what they link to."""
  for file in [file for file in files if file.src_dir == config.docs_dir]:
    files.remove(file)
  for page in ROOT.glob('docs/reference/*.md'):
    _documented.update(re.findall(r'^::: (\S+)$', page.read_text(encoding='utf-8'), re.MULTILINE))
  files.append(_copy(config, STYLE, pathlib.Path(__file__).with_name('site.css')))
  waiting = [path for pattern in WRITTEN for path in sorted(ROOT.glob(pattern))]
  waiting += sorted(ROOT.glob('notebooks/*.ipynb'))
  waiting += [ROOT / folder for folder in FOLDERS]
  seen = set(waiting)
  while waiting:
    path = waiting.pop()
    for file, targets in _published(config, path):
      files.append(file)
      waiting += [target for target in targets if target not in seen]
      seen.update(targets)
  return files


def _published(config: MkDocsConfig, path: pathlib.Path) -> list[tuple[File, list[pathlib.Path]]]:
  """The files of the site for one of the repository, each with what it links to."""
  name = _path(path)
  if path.is_dir():
    if (path / 'index.md').exists():
      return []
    pages = [page for page in sorted(path.iterdir()) if page.suffix in ('.md', '.ipynb', '.json')]
    return [_generated(config, f'{name}/index.md', _contents(path, pages), path / 'index.md')]
  if path.suffix == '.md':
    return [(_copy(config, name, path), _targets(path, path.read_text(encoding='utf-8')))]
  if path.suffix == '.ipynb':
    text, pictures = notebook_pages.converted(path)
    folder = posixpath.dirname(name)
    return [
      _generated(config, f'{name}.md', text, path),
      *(
        (File.generated(config, f'{folder}/{picture}', content=content), [])
        for picture, content in pictures.items()
      ),
    ]
  if path.suffix in ('.png', '.svg'):
    return [(_copy(config, name, path), [])]
  code = path.read_text(encoding='utf-8').rstrip('\n')
  language = _LANGUAGES.get(path.suffix, 'text')
  text = f'---\nsearch:\n  exclude: true\n---\n# {name}\n\n````{language}\n{code}\n````\n'
  return [_generated(config, f'{name}.md', text, None)]


def _copy(config: MkDocsConfig, name: str, path: pathlib.Path) -> File:
  return File.generated(config, name, abs_src_path=str(path))


def _generated(
  config: MkDocsConfig, name: str, text: str, path: pathlib.Path | None
) -> tuple[File, list[pathlib.Path]]:
  """A page that is made here; without a path it is source text, whose links are left alone."""
  inclusion = InclusionLevel.UNDEFINED if path else InclusionLevel.NOT_IN_NAV
  file = File.generated(config, name, content=text, inclusion=inclusion)
  return file, _targets(path, text) if path else []


def _contents(folder: pathlib.Path, pages: list[pathlib.Path]) -> str:
  lines = [f'# {folder.name.capitalize()}', '']
  return '\n'.join(lines + [f'- [{_title(page)}]({page.name})' for page in pages]) + '\n'


def _title(page: pathlib.Path) -> str:
  if page.suffix == '.ipynb':
    return notebook_pages.title(page)
  found = re.search(r'^# (.*)$', page.read_text(encoding='utf-8'), re.MULTILINE)
  return found[1] if page.suffix == '.md' and found else page.name


def _path(path: pathlib.Path) -> str:
  return path.relative_to(ROOT).as_posix()


def _targets(page: pathlib.Path, text: str) -> list[pathlib.Path]:
  """Files and folders to which a page links. MkDocs says which links lead nowhere."""
  found = []
  for link, _ in _LINK.findall(_FENCE.sub('', text)):
    target = pathlib.Path(posixpath.normpath(page.parent / link))
    if link and '://' not in link and target.exists() and target.is_relative_to(ROOT):
      found.append(target)
  return found


def on_page_markdown(markdown: str, *, page: Page, **_: Any) -> str:
  """Text for code hosts as text for MkDocs."""
  folder = posixpath.dirname(page.file.src_uri)

  def link(found: re.Match[str]) -> str:
    path, anchor = found[1], found[2] or ''
    if '://' in path:
      _outside.add(path + anchor)
      return found[0]
    if not path:
      return found[0]
    target = ROOT / posixpath.normpath(posixpath.join(folder, path))
    if target.is_dir():
      path = f'{path.rstrip("/")}/index.md'
    elif target.suffix not in ('.md', '.png', '.svg') and target.exists():
      path += '.md'
    return path + anchor

  def name(found: re.Match[str]) -> str:
    target = f'tff_privacy_agg.{found[1]}'
    return f'[{found[0]}][{target}]' if target in _documented else found[0]

  def prose(text: str) -> str:
    lines = _LIST_AFTER_TEXT.sub(r'\1\n', _LINK.sub(link, text)).splitlines(keepends=True)
    return ''.join(line if line.startswith('#') else _NAME.sub(name, line) for line in lines)

  return _outside_of_fences(markdown, prose)


def _outside_of_fences(markdown: str, change: Callable[[str], str]) -> str:
  """Changes what is no code; of a fence's info only the language stays."""
  parts, end = [], 0
  for fence in _FENCE.finditer(markdown):
    info = fence[2] if fence[2].startswith('{') else (fence[2].split() or ['text'])[0]
    parts += [change(markdown[end : fence.start()]), f'{fence[1]}{info}\n{fence[3]}{fence[1]}']
    end = fence.end()
  return ''.join([*parts, change(markdown[end:])])


def on_post_build(**_: Any) -> None:
  """Prints where links lead outside: nobody fetches these here."""
  _log.info('Links to other sites, not followed:\n%s', '\n'.join(sorted(_outside)))
