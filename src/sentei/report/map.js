const svg = document.getElementById('map'), panel = document.getElementById('panel');
const nodes = [...svg.querySelectorAll('.node')], edges = [...svg.querySelectorAll('.edge')];
const esc = t => String(t).replace(/[&<>"]/g, c => ({'&':'&amp;','<':'&lt;','>':'&gt;','"':'&quot;'}[c]));
function light(id) {
  edges.forEach(e => e.classList.toggle('lit', e.dataset.from === id || e.dataset.to === id));
}
function row(name, value) { return value ? `<tr><th scope="row">${name}</th><td>${value}</td></tr>` : ''; }
function link(id) { return DATA[id] ? `<a href="#${id}">${esc(id)}</a>` : esc(id); }
function plot(c) {
  const W = 250, H = 150, L = 34, B = 24, xs = c.points.map(p => Math.log2(p[0]));
  const lo = Math.min(...xs, 0), hi = Math.max(...xs, 1);
  const X = v => L + (v - lo) / (hi - lo) * (W - L - 8), Y = v => 8 + (100 - v) / 100 * (H - B - 8);
  let out = `<svg width="${W}" height="${H}" role="img" aria-label="${esc(c.pair)}: accuracy against compression">`;
  for (const t of [0, 50, 100]) out += `<line class="grid" x1="${L}" x2="${W}" y1="${Y(t)}" y2="${Y(t)}"/><text x="2" y="${Y(t)+4}">${t}</text>`;
  c.points.forEach(p => { const x = X(Math.log2(p[0]));
    out += `<text x="${x-8}" y="${H-6}">${Math.round(p[0]*10)/10}×</text>`;
    out += `<line class="bar" x1="${x}" x2="${x}" y1="${Y(Math.min(100, p[1]+p[2]))}" y2="${Y(Math.max(0, p[1]-p[2]))}"/>`; });
  if (c.control !== null) out += `<line class="dense" x1="${L}" x2="${W}" y1="${Y(c.control)}" y2="${Y(c.control)}"/>`;
  out += `<polyline points="${c.points.map(p => X(Math.log2(p[0])) + ',' + Y(p[1])).join(' ')}"/></svg>`;
  const rows = c.points.map(p => `${p[0].toFixed(1)}×: ${p[1].toFixed(1)} ± ${p[2].toFixed(1)}`).join('; ');
  return `<figure>${out}<figcaption>${esc(c.pair)}${c.method.includes('(') ? ' ' + esc(c.method.slice(c.method.indexOf('('))) : ''}<br><small>${rows}</small></figcaption></figure>`;
}
function show(id, move) {
  const m = DATA[id];
  if (!m) return;
  nodes.forEach(n => n.classList.toggle('chosen', n.dataset.id === id));
  light(id);
  const later = Object.keys(DATA).filter(k => DATA[k].lineage.includes(id));
  let out = `<h2>${esc(id)}: ${esc(m.title)}</h2><p>${esc(m.authors)}; ${esc(m.venue)} ${m.year}` +
    (m.arxiv ? `; <a href="https://arxiv.org/abs/${esc(m.arxiv)}">arXiv:${esc(m.arxiv)}</a>` : '') + '</p><table>' +
    row('removes', esc(m.structure)) + row('when', esc(m.timing) + ' training; starts from the ' + esc(m.starts) + ' network') +
    row('needs', esc(m.needs.join(', ') || 'weights only')) + row('builds on', m.lineage.map(link).join(', ')) +
    row('led to', later.map(link).join(', ')) +
    row('options', Object.entries(m.options).map(([k, v]) => `<code>${esc(k)}=${esc(v)}</code>`).join(', ')) +
    row('card', esc(m.card || '')) + row('code', `<code>${esc(m.file)}</code>`) + `</table><pre>${esc(m.text)}</pre>`;
  for (const c of m.claims) {
    out += `<h3>Claim: ${esc(c.outcome)}</h3><p>${esc(c.statement)}.</p><p><small>Paper: ${esc(c.paper)}</small></p><ul>` +
      Object.entries(c.checks).map(([w, held]) => `<li>${held ? 'holds' : '<strong>does not hold</strong>'}: ${esc(w)}</li>`).join('') + '</ul>' +
      (c.why ? `<p>${esc(c.why)}</p>` : '') + '<table>' +
      Object.entries(c.figures).map(([n, f]) => row(esc(n), f[0].toPrecision(3) + ' ± ' + f[1].toPrecision(2))).join('') +
      `</table><p><small>seeds ${c.seeds.join(', ')}; <code>${esc(c.command)}</code></small></p>`;
  }
  if (m.curves.length) out += `<h3>Measured: accuracy against times smaller</h3><div class="plots">${m.curves.map(plot).join('')}</div>` +
    `<p><small>Test accuracy in %, mean ± standard deviation over seeds ${m.curves[0].seeds.join(', ')}; dashed: unpruned.</small></p>`;
  panel.innerHTML = out;
  if (move) panel.focus();
  if (location.hash.slice(1) !== id) history.replaceState(null, '', '#' + id);
}
nodes.forEach(n => {
  n.addEventListener('click', () => show(n.dataset.id, false));
  n.addEventListener('keydown', e => { if (e.key === 'Enter' || e.key === ' ') { e.preventDefault(); show(n.dataset.id, true); } });
  n.addEventListener('mouseenter', () => light(n.dataset.id));
  n.addEventListener('focus', () => light(n.dataset.id));
});
addEventListener('hashchange', () => show(location.hash.slice(1), true));
function filter() {
  const words = document.getElementById('find').value.toLowerCase().split(/\s+/).filter(Boolean);
  const structure = document.getElementById('structure').value, timing = document.getElementById('timing').value;
  let count = 0;
  nodes.forEach(n => { const m = DATA[n.dataset.id];
    const text = [n.dataset.id, m.title, m.authors, m.venue, m.year, m.text].join(' ').toLowerCase();
    const on = words.every(w => text.includes(w)) && (!structure || m.structure === structure) && (!timing || m.timing === timing);
    n.classList.toggle('dim', !on); n.setAttribute('tabindex', on ? '0' : '-1'); count += on; });
  document.getElementById('shown').textContent = `${count} of ${nodes.length} methods`;
}
['find', 'structure', 'timing'].forEach(id => document.getElementById(id).addEventListener('input', filter));
filter();
if (location.hash) show(location.hash.slice(1), false);
