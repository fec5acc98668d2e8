/** The page at `/`, for browsers: it lists the adapters and compares two of them. One document, without requests to other servers. */
import { createHash } from 'node:crypto'
import { PAGE_SCRIPT } from './page-script.js'
import { PAGE_STYLE } from './page-style.js'

const BODY = `<header>
  <h1 id="model">Adapters</h1>
  <p id="about">Loading the list of adapters …</p>
</header>
<main>
  <p id="problem" role="alert" hidden></p>
  <form id="key-form" class="card controls" hidden>
    <label class="grow">API key
      <input id="key" type="password" autocomplete="off" required>
    </label>
    <button type="submit">Use the key</button>
    <p class="note">The key stays in the memory of this page, until you close it.</p>
  </form>
  <form id="ask" class="card" hidden>
    <h2>Compare two adapters</h2>
    <div class="sides">
      <fieldset data-side="left">
        <legend>Left</legend>
        <label>Search <input type="search" placeholder="part of a name"></label>
        <label>Adapter <select size="6"></select></label>
        <p class="note" role="status"></p>
      </fieldset>
      <fieldset data-side="right">
        <legend>Right</legend>
        <label>Search <input type="search" placeholder="part of a name"></label>
        <label>Adapter <select size="6"></select></label>
        <p class="note" role="status"></p>
      </fieldset>
    </div>
    <div id="inputs"></div>
    <div class="controls">
      <button id="run" type="submit" class="main">Compare</button>
      <button id="stop" type="button" disabled>Stop</button>
    </div>
  </form>
  <div id="answers" class="sides" hidden>
    <section class="card" data-side="left" aria-live="polite" aria-label="Answer of the left adapter"><h2></h2><div class="answer"></div><p class="note"></p></section>
    <section class="card" data-side="right" aria-live="polite" aria-label="Answer of the right adapter"><h2></h2><div class="answer"></div><p class="note"></p></section>
  </div>
</main>`

const HTML = `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>FourierFT server</title>
<link rel="icon" href="data:,">
<style>${PAGE_STYLE}</style>
</head>
<body>
${BODY}
<script type="module">${PAGE_SCRIPT}</script>
</body>
</html>
`

const source = (text: string) => `'sha256-${createHash('sha256').update(text).digest('base64')}'`

/** The document and its headers. The policy allows exactly this style and this script, and requests to this server. */
export const page = {
  html: HTML,
  headers: {
    'content-security-policy': [
      "default-src 'none'",
      `script-src ${source(PAGE_SCRIPT)}`,
      `style-src ${source(PAGE_STYLE)}`,
      "connect-src 'self'",
      'img-src data:',
      "base-uri 'none'",
      "form-action 'none'",
      "frame-ancestors 'none'",
    ].join('; '),
    'x-content-type-options': 'nosniff',
    'referrer-policy': 'no-referrer',
    'cache-control': 'no-cache',
  },
} as const
