const graph = document.querySelector('.graph');
if (graph) {
  const lines = document.getElementById('lines'), told = document.getElementById('told');
  const cells = [...graph.querySelectorAll('.cell[data-names]')];
  const names = new Map(cells.map(c => [c, JSON.parse(c.dataset.names)]));
  let chosen = null;
  function show(group) {
    graph.classList.toggle('choosing', group !== null);
    const lit = cells.filter(c => names.get(c).includes(group));
    cells.forEach(c => c.classList.toggle('lit', lit.includes(c)));
    lines.innerHTML = '';
    if (group === null) { told.textContent = 'No group chosen.'; return; }
    // One line a layer, joined at the left: what hangs together is seen even far apart.
    const rows = [...new Set(lit.map(c => c.closest('li')))];
    const top = graph.getBoundingClientRect().top;
    const ys = rows.map(r => { const b = r.getBoundingClientRect(); return b.top + b.height / 2 - top; });
    lines.style.height = graph.scrollHeight + 'px';
    if (ys.length) {
      const colour = getComputedStyle(lit[0]).getPropertyValue('--own');
      const path = ys.map(y => `M24,${y} H74`).join(' ') + ` M24,${ys[0]} V${ys[ys.length - 1]}`;
      lines.innerHTML = `<path d="${path}" stroke="${colour}"/>`;
    }
    told.textContent = `Group ${group}: ${lit.length} size${lit.length === 1 ? '' : 's'} in ${rows.length} ` +
      `layer${rows.length === 1 ? '' : 's'}.`;
  }
  function choose(group) { chosen = chosen === group ? null : group; show(chosen); }
  cells.forEach(c => {
    const first = names.get(c)[0];
    c.addEventListener('mouseenter', () => show(first));
    c.addEventListener('mouseleave', () => show(chosen));
    c.addEventListener('focus', () => show(first));
    c.addEventListener('blur', () => show(chosen));
    c.addEventListener('click', () => choose(first));
    c.addEventListener('keydown', e => { if (e.key === 'Enter' || e.key === ' ') { e.preventDefault(); choose(first); } });
  });
  document.querySelectorAll('button.group').forEach(b => b.addEventListener('click', () => {
    chosen = b.dataset.group; show(chosen);
    const first = cells.find(c => names.get(c).includes(chosen));
    if (first) { first.scrollIntoView({block: 'center', behavior: 'smooth'}); first.focus({preventScroll: true}); }
  }));
  addEventListener('resize', () => show(chosen));
}
