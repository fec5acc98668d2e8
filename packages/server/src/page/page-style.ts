/** The style of the page. */
export const PAGE_STYLE = `
:root {
  color-scheme: light dark;
  --paper: #fbfaf7;
  --card: #ffffff;
  --ink: #1d2129;
  --quiet: #5b6270;
  --line: #d9d7d0;
  --accent: #0b63b5;
  --on-accent: #ffffff;
  --bar: #bcd9f5;
  --error: #a4161a;
  font-family: system-ui, sans-serif;
  line-height: 1.5;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #14171c;
    --card: #1c2027;
    --ink: #e8eaee;
    --quiet: #a5acb9;
    --line: #363c47;
    --accent: #7ab8f5;
    --on-accent: #0d1520;
    --bar: #1f4e7d;
    --error: #ff9b93;
  }
}
* { box-sizing: border-box; }
[hidden] { display: none !important; }
body {
  margin: 0 auto;
  max-width: 62rem;
  padding: 1.5rem 1rem 3rem;
  color: var(--ink);
  background: var(--paper);
}
h1 { margin: 0; font-size: 1.75rem; line-height: 1.2; overflow-wrap: anywhere; }
h2 { margin: 0 0 0.75rem; font-size: 1.2rem; overflow-wrap: anywhere; }
header p { margin: 0.5rem 0 1rem; color: var(--quiet); }
.card {
  margin-top: 1rem;
  padding: 1.25rem;
  border: 1px solid var(--line);
  border-radius: 0.75rem;
  background: var(--card);
}
.sides {
  display: grid;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 18rem), 1fr));
  gap: 0 1rem;
}
fieldset {
  min-width: 0;
  margin: 0 0 1rem;
  padding: 0.5rem 1rem 1rem;
  border: 1px solid var(--line);
  border-radius: 0.5rem;
}
legend { padding: 0 0.3rem; font-weight: 600; }
label { display: grid; gap: 0.2rem; margin-bottom: 0.75rem; color: var(--quiet); font-size: 0.9rem; }
.controls { display: flex; flex-wrap: wrap; gap: 0.75rem; align-items: end; }
.controls label { margin: 0; }
.grow { flex: 1 1 14rem; }
button, select, input, textarea {
  min-height: 2.75rem;
  width: 100%;
  padding: 0.5rem 0.9rem;
  border: 1px solid var(--line);
  border-radius: 0.5rem;
  color: var(--ink);
  background: var(--paper);
  font: inherit;
}
select[size] { padding: 0.25rem; }
select[size] option { padding: 0.2rem 0.65rem; border-radius: 0.3rem; }
textarea { min-height: 6rem; resize: vertical; }
button { width: auto; padding: 0 1.1rem; cursor: pointer; }
button.main { border-color: var(--accent); color: var(--on-accent); background: var(--accent); font-weight: 600; }
:disabled { cursor: not-allowed; opacity: 0.5; }
:focus-visible { outline: 3px solid var(--accent); outline-offset: 2px; }
.note { margin: 0.25rem 0 0; color: var(--quiet); font-size: 0.9rem; }
#problem, .failed {
  margin: 0.5rem 0 0;
  padding: 0.5rem 0.75rem;
  border: 1px solid var(--error);
  border-radius: 0.5rem;
  color: var(--error);
  overflow-wrap: anywhere;
}
.answer { overflow-wrap: anywhere; }
.text { white-space: pre-wrap; margin: 0; }
.big { margin: 0; font-size: 1.9rem; font-weight: 600; font-variant-numeric: tabular-nums; color: var(--accent); }
.bars { display: grid; grid-template-columns: minmax(4rem, auto) minmax(4rem, 1fr) auto; gap: 0.35rem 0.75rem; margin: 0; align-items: center; }
.bars .number { font-variant-numeric: tabular-nums; text-align: right; }
.bar { height: 1.1rem; border: 1px solid var(--line); border-radius: 0.3rem; background: var(--paper); overflow: hidden; }
.share { display: block; height: 100%; background: var(--bar); }
#inputs .controls { margin-bottom: 0.75rem; }
pre { margin: 0; max-height: 24rem; overflow: auto; font-size: 0.85rem; white-space: pre-wrap; }
`
