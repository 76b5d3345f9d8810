"""Tables as HTML, from the Markdown files that hold them. Knows tables, paragraphs, lists, bold and code."""

import html
import re


def inline(text):
    """A text of Markdown as HTML: bold and code. All else is shown as it is."""
    parts = re.split(r"`([^`]+)`", html.escape(text.strip(), quote=False))
    parts[0::2] = [re.sub(r"\*\*(\S|\S.*?\S)\*\*", r"<strong>\1</strong>", part) for part in parts[0::2]]
    parts[1::2] = [f"<code>{part}</code>" for part in parts[1::2]]
    return "".join(parts)


def table(header, rows, name, numbers=()):
    """A table in a box that scrolls sideways.

    Args:
        header, rows: cells of HTML. The first cell of a row names it.
        name: what the box holds, for those who hear the page.
        numbers: the columns, from 0, that are aligned at the right.
    """
    def line(cells, is_header):
        tags = []
        for column, cell in enumerate(cells):
            scope = "col" if is_header else "row" if column == 0 else ""
            tag, place = ("th", f' scope="{scope}"') if scope and cell else ("td", "")
            aligned = ' class="number"' if column in numbers else ""
            tags.append(f"<{tag}{place}{aligned}>{cell}</{tag}>")
        return f"<tr>{''.join(tags)}</tr>"

    body = "\n".join(line(row, False) for row in rows)
    return (f'<div class="wide" role="region" tabindex="0" aria-label="{html.escape(name)}"><table>\n'
            f"<thead>{line(header, True)}</thead>\n<tbody>\n{body}\n</tbody></table></div>")


def markdown(text, name):
    """Markdown as HTML, of blocks that empty lines part. Comments are left out."""
    blocks = []
    for block in re.split(r"\n\s*\n", re.sub(r"<!--.*?-->", "", text, flags=re.DOTALL).strip()):
        lines = block.strip().splitlines()
        if len(lines) > 1 and re.fullmatch(r"[\s|:-]*-[\s|:-]*", lines[1]):
            header, aligned, *rows = ([cell.strip() for cell in line.strip().strip("|").split("|")] for line in lines)
            numbers = {column for column, mark in enumerate(aligned) if mark.endswith(":")}
            blocks.append(table([*map(inline, header)], [[*map(inline, row)] for row in rows], name, numbers))
        elif block.startswith("- "):
            items = re.split(r"^- ", block, flags=re.MULTILINE)[1:]
            blocks.append("<ul>" + "".join(f"<li>{inline(' '.join(item.split()))}</li>" for item in items) + "</ul>")
        elif lines:
            blocks.append(f"<p>{inline(' '.join(block.split()).lstrip('# '))}</p>")
    return "\n".join(blocks)
