"""The pages about managed servers: what there is, one that starts, and one that did not."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from itertools import groupby

from proxyd.core.html import Page
from proxyd.core.launcher import Card

_STATE_WORDS = {
    "ready": "running",
    "starting": "starting",
    "renewing": "starting",
    "backing_off": "starting again",
    "stopping": "stopping",
    "aborting": "stopping",
    "failed": "failed",
    "stopped": "not running",
}

_LOG_STYLE = """
main { --width: 56rem }
pre, .end { border: 1px solid var(--line); border-radius: .375rem; background: var(--paper) }
pre { margin: 0 0 1.25rem; padding: 1rem; max-height: 24rem; overflow: auto; font: .8125rem/1.5 ui-monospace, monospace;
  white-space: pre-wrap; overflow-wrap: anywhere }
pre:empty::before { content: "It has printed nothing yet."; color: var(--dim) }
.end { display: flex; flex-direction: column-reverse; max-height: 28rem; margin: 0 0 1.25rem; overflow: auto }
.end pre { margin: 0; border: 0; max-height: none; overflow: visible }
.dim { color: var(--dim) }
.trouble { color: var(--alarm) }
.trouble:empty { display: none }
.bar { height: .25rem; margin: 0 0 1.25rem; border-radius: .25rem; background: var(--line); overflow: hidden }
.bar::after { content: ""; display: block; width: 30%; height: 100%; border-radius: .25rem; background: var(--mark);
  animation: go 1.4s ease-in-out infinite alternate }
@keyframes go { from { transform: translateX(0) } to { transform: translateX(233%) } }
@media (prefers-reduced-motion: reduce) { .bar::after { width: 100%; animation: none } }
.again { display: inline-block; padding: .5rem .75rem; border-radius: .375rem; background: var(--mark);
  color: var(--on-mark); font-weight: 600; text-decoration: none }
"""

_START_STYLE = """
body { place-items: start center }
main { --width: 60rem }
h2 { margin: 1.5rem 0 .75rem; font-size: 1rem; color: var(--dim); font-weight: 600 }
ul { display: grid; grid-template-columns: repeat(auto-fill, minmax(13rem, 1fr)); gap: .75rem; margin: 0; padding: 0;
  list-style: none }
li a { display: grid; grid-template-columns: auto 1fr; gap: 0 .75rem; align-items: center; min-height: 4.25rem;
  padding: .75rem 1rem; border: 1px solid var(--line); border-radius: .375rem; color: inherit; text-decoration: none }
li a:hover { border-color: var(--mark) }
img, .letter { grid-row: span 2; width: 2rem; height: 2rem }
.letter { display: grid; place-items: center; border-radius: .375rem; background: var(--mark); color: var(--on-mark);
  font-weight: 600 }
strong { overflow-wrap: anywhere; line-height: 1.3 }
small { color: var(--dim); overflow-wrap: anywhere; line-height: 1.3 }
small.failed { color: var(--alarm) }
small.ready { color: var(--mark) }
form { display: flex; gap: .5rem; align-items: end; flex-wrap: wrap }
label { display: grid; color: var(--dim); font-size: .875rem }
input, button { padding: .5rem .75rem; font: inherit; border-radius: .375rem; border: 1px solid var(--line) }
input { width: 8rem; background: var(--paper); color: var(--ink) }
button { background: var(--mark); border-color: var(--mark); color: var(--on-mark); font-weight: 600; cursor: pointer }
.empty { color: var(--dim) }
"""

# The states change without anybody loading the page again; who leaves it takes the connection along.
_START_SCRIPT = """
const words = JSON.parse(document.getElementById("cards").dataset.words);
new EventSource(document.getElementById("cards").dataset.events).addEventListener("state", (event) => {
  const { server, state } = JSON.parse(event.data);
  for (const card of document.querySelectorAll("[data-server]")) {
    if (card.dataset.server === server) { card.textContent = words[state] || state; card.className = state; }
  }
});
"""

# The clock runs from when the page came. The stream begins with the lines that there are, also when it has been
# interrupted. What comes is shown a few times a second, at the end unless somebody reads further up. Who may not read
# what the server prints has no log on the page.
_WAITING_SCRIPT = """
const status = document.getElementById("status");
const log = document.getElementById("log");
const clock = document.getElementById("clock");
const trouble = document.getElementById("trouble");
const began = Date.now() - 1000 * Number(status.dataset.seconds);
const words = (n) => n === 1 ? "1 second" : n < 120 ? `${n} seconds` : `${Math.floor(n / 60)} minutes`;
setInterval(() => { clock.textContent = words(Math.floor((Date.now() - began) / 1000)); }, 500);
let lines = [];
let isNew = false;
setInterval(() => {
  if (!log || !isNew && !lines.length) return;
  const isAtEnd = log.scrollHeight - log.scrollTop - log.clientHeight < 40;
  if (isNew) log.textContent = "";
  log.append(...lines);
  while (log.childNodes.length > 2000) log.firstChild.remove();
  if (isAtEnd) log.scrollTop = log.scrollHeight;
  lines = [];
  isNew = false;
}, 100);
const again = () => location.reload();
const events = new EventSource(status.dataset.events);
events.addEventListener("open", () => { lines = []; isNew = true; });
events.addEventListener("line", (event) => {
  lines.push(JSON.parse(event.data) + "\\n");
  if (lines.length > 4000) lines = lines.slice(-2000);
});
events.addEventListener("state", (event) => {
  const { state, reason } = JSON.parse(event.data);
  if (reason) trouble.textContent = `It ${reason}, and is started again.`;
  if (state === "ready" || state === "failed" || state === "stopped") { events.close(); again(); }
});
events.addEventListener("error", () => { if (events.readyState === EventSource.CLOSED) setTimeout(again, 2000); });
if (log) log.scrollTop = log.scrollHeight;
"""


def waiting_page(name: str, seconds: float, limit: float, events_url: str, lines: Iterable[str] | None) -> Page:
    """The page while the server `name` starts, for `seconds` so far: its log as it comes, then the application.

    It is given up after the `limit`. `events_url` tells of lines and states; `lines` None: the reader may not see them.
    Without scripts the page asks again every few seconds.
    """
    log = ""
    if lines is not None:
        shown = "".join(f"{escape(line)}\n" for line in lines)
        log = f'\n<pre id="log" tabindex="0" aria-label="What {escape(name)} prints">{shown}</pre>'
    return Page(
        title=f"Starting {name}",
        head='<noscript><meta http-equiv="refresh" content="3"></noscript>\n',
        content=(
            f"<h1>Starting {escape(name)}</h1>\n"
            f'<p id="status" data-seconds="{seconds:.1f}" data-events="{escape(events_url)}">'
            f'It began <span id="clock">{_duration(seconds)}</span> ago. The application comes up here as soon as it '
            f"answers, for which it has {_duration(limit)}.</p>\n"
            f'<div class="bar" aria-hidden="true"></div>\n<p id="trouble" class="trouble" role="status"></p>{log}'
        ),
        style=_LOG_STYLE,
        script=_WAITING_SCRIPT,
        connects=True,
    )


def _duration(seconds: float) -> str:
    """A time in words, as the script has it."""
    whole = int(seconds)
    if whole == 1:
        return "1 second"
    return f"{whole} seconds" if whole < 120 else f"{whole // 60} minutes"


def failed_page(name: str, reason: str, lines: Sequence[str] | None, request_id: str) -> Page:
    """The page about a server that did not start, for the `reason`; `lines` None: the reader may not see them."""
    if lines is None:
        rest = '<p class="dim">The log of the proxy tells why.</p>'
    elif lines:
        shown = "".join(f"{escape(line)}\n" for line in lines)
        rest = (
            '<p class="dim">The last lines that it printed:</p>\n'
            f'<div class="end" tabindex="0"><pre>{shown}</pre></div>'
        )
    else:
        rest = '<p class="dim">It has printed nothing.</p>'
    why = "" if reason == "did not start" else f"<p>{escape(name)} {escape(reason)}.</p>\n"
    return Page(
        title=f"{name} did not start",
        content=(
            f"<h1>{escape(name)} did not start</h1>\n{why}{rest}\n"
            f'<p><a class="again" href="">Try again</a></p>\n'
            f'<p class="dim">Request <code>{escape(request_id)}</code></p>'
        ),
        style=_LOG_STYLE,
        alarm=True,
    )


def preparing_page(task: str, lines: Iterable[str] | None) -> Page:
    """The page while the `task` comes before the start of an application; it asks again by itself.

    `lines` are what it has printed, None if the reader may not see them.
    """
    shown = "" if lines is None else "".join(f"{escape(line)}\n" for line in lines)
    return Page(
        title=task,
        head='<meta http-equiv="refresh" content="2">\n',
        content=(
            f"<h1>{escape(task)}</h1>\n<p>The application starts after that. This page looks again every two "
            'seconds.</p>\n<div class="bar" aria-hidden="true"></div>'
            + ("" if lines is None else f'\n<div class="end" tabindex="0"><pre>{shown}</pre></div>')
        ),
        style=_LOG_STYLE,
    )


def unprepared_page(reason: str, lines: Iterable[str] | None) -> Page:
    """The page when that has failed, for the `reason`; it is tried again by who asks after a while."""
    shown = "" if lines is None else "".join(f"{escape(line)}\n" for line in lines)
    log = "" if lines is None else f'<div class="end" tabindex="0"><pre>{shown}</pre></div>\n'
    return Page(
        title="The application cannot be prepared",
        content=(
            f"<h1>The application cannot be prepared</h1>\n<p>{escape(reason)}.</p>\n{log}"
            '<p><a class="again" href="">Try again</a></p>\n'
            '<p class="dim">The next attempt is made ten seconds after this one at the earliest.</p>'
        ),
        style=_LOG_STYLE,
        alarm=True,
    )


def start_page(cards: Sequence[Card], *, base_url: str, has_ports: bool) -> Page:
    """The page at `base_url`: what can be opened, by category, and a field for a port."""
    parts = ["<h1>Applications</h1>"]
    by_category = groupby(sorted(cards, key=lambda card: card.category), key=lambda card: card.category)
    for category, group in by_category:
        parts.append(f"<h2>{escape(category)}</h2>\n<ul>\n{''.join(map(_card, group))}</ul>")
    if has_ports:
        parts.append(
            f'<h2>Ports</h2>\n<form action="{escape(base_url)}server-proxy/port" method="get">\n'
            '<label>Port of this machine <input name="port" type="number" min="1" max="65535" required></label>\n'
            "<button>Open</button>\n</form>"
        )
    if len(parts) == 1:
        parts.append('<p class="empty">Nothing is published here yet.</p>')
    events = f"{base_url}server-proxy/events"
    words = "{" + ", ".join(f'"{state}": "{word}"' for state, word in _STATE_WORDS.items()) + "}"
    content = "\n".join(parts)
    return Page(
        title="Applications",
        content=f'<div id="cards" data-events="{escape(events)}" data-words="{escape(words)}">\n{content}\n</div>',
        style=_START_STYLE,
        script=_START_SCRIPT if any(card.state for card in cards) else "",
        connects=True,
    )


def _card(card: Card) -> str:
    target = ' target="_blank" rel="noopener"' if card.new_tab else ""
    letter = escape(card.title[:1].upper())
    icon = (
        f'<img src="{escape(card.icon)}" alt="">'
        if card.icon
        else f'<span class="letter" aria-hidden="true">{letter}</span>'
    )
    state = escape(card.state)
    detail = (
        f'<small class="{state}" data-server="{escape(card.name)}">{escape(_STATE_WORDS[card.state])}</small>'
        if card.state
        else f"<small>{escape(card.detail)}</small>"
    )
    return f'<li><a href="{escape(card.url)}"{target}>{icon}<strong>{escape(card.title)}</strong>{detail}</a></li>\n'
