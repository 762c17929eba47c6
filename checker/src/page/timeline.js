const { bars, arrows } = JSON.parse(document.getElementById('data').textContent);
const svg = document.getElementById('timeline'), about = document.getElementById('about');
const evenly = document.getElementById('evenly');
const rows = [...new Set(bars.map(o => o.row))];
// Rows stand apart where arrows go between them.
const height = arrows.length ? 64 : 22, top_ = arrows.length ? 30 : 4, bar = arrows.length ? 20 : 16, left = 130;
svg.setAttribute('height', rows.length * height + 14);
const times = [...new Set(bars.flatMap(o => o.ret === null ? [o.call] : [o.call, o.ret]))].sort((a, b) => a - b);
const ranks = new Map(times.map((time, place) => [time, place]));
const scale = time => evenly.checked ? ranks.get(time) : time;
let from, to;
function fit() {
  from = scale(times[0]);
  to = Math.max(scale(times[times.length - 1]), from + 1);
  if (arrows.length) { const room = (to - from) / 20; from -= room; to += room; }
  draw();
}
function element(name, attributes, parent) {
  const e = document.createElementNS('http://www.w3.org/2000/svg', name);
  for (const [k, v] of Object.entries(attributes)) e.setAttribute(k, v);
  parent.appendChild(e);
  return e;
}
// Marks what belongs to that which the pointer is on.
function hot(classes) {
  return on => {
    for (const name of classes) svg.querySelectorAll(name).forEach(e => e.classList.toggle('hot', on));
  };
}
function tells(e, line, mark) {
  e.addEventListener('mouseenter', () => { about.textContent = line; mark(true); });
  e.addEventListener('mouseleave', () => mark(false));
}
function draw() {
  svg.replaceChildren();
  const width = svg.clientWidth - left;
  const x = t => left + (t - from) / (to - from) * width;
  const defs = element('defs', {}, svg);
  for (const kind of new Set(arrows.map(o => o.kind))) {
    const head = element('marker', {id: 'head-' + kind, class: kind, viewBox: '0 0 8 8', refX: 7, refY: 4,
      markerWidth: 7, markerHeight: 7, orient: 'auto', markerUnits: 'userSpaceOnUse'}, defs);
    element('path', {d: 'M0,0L8,4L0,8z'}, head);
  }
  element('rect', {x: left, y: 0, width: Math.max(width, 1), height: rows.length * height + 14},
    element('clipPath', {id: 'inside'}, defs));
  const inside = element('g', {'clip-path': 'url(#inside)'}, svg);
  const boxes = bars.map((o, i) => {
    const y = rows.indexOf(o.row) * height + top_, end = o.ret === null ? Math.max(to, scale(o.call)) : scale(o.ret);
    const a = x(scale(o.call)), b = Math.max(x(end), a + 3);
    const box = {a: Math.max(left, a), b: Math.min(left + width, b), from: a, to: o.ret === null ? a + 3 : b, y};
    if (b < left || a > left + width) return box;
    const rect = element('rect', {x: box.a, y, width: Math.max(box.b - box.a, 1), height: bar,
      class: 'op ' + o.mark + (o.ret === null ? ' unknown' : '') + ' bar' + i}, inside);
    tells(rect, o.line, hot(['.bar' + i, '.of' + i]));
    if (box.b - box.a > 40) {
      element('text', {x: box.a + 3, y: y + bar - 5}, inside).textContent = o.short.slice(0, (box.b - box.a) / 6);
    }
    return box;
  });
  arrows.forEach((o, i) => arrow(o, i, boxes[o.from], boxes[o.to], inside));
  rows.forEach((p, i) => { element('text', {x: 2, y: i * height + top_ + 12}, svg).textContent = p; });
}
function arrow(o, i, a, b, inside) {
  // From the end of the one to the beginning of the other where that comes after, else between their middles.
  const after = a.to <= b.from;
  const x0 = after ? a.to : (a.from + a.to) / 2, x1 = after ? b.from : (b.from + b.to) / 2;
  const level = a.y === b.y, down = b.y > a.y;
  const under = level && !after;
  const y0 = down || under ? a.y + bar : a.y, y1 = down || level && !under ? b.y : b.y + bar;
  // The bend puts there and back on two sides.
  const bend = level ? 0 : 0.15;
  const cx = (x0 + x1) / 2 - (y1 - y0) * bend, cy = (y0 + y1) / 2 + (level ? (under ? 34 : -34) : (x1 - x0) * bend / 2);
  const d = `M${x0},${y0}Q${cx},${cy} ${x1},${y1}`;
  const line = element('path', {d, class: `arrow ${o.kind} edge${i} of${o.from} of${o.to}` + (o.of_cycle ? ' cycle' : ''),
    'marker-end': `url(#head-${o.kind})`}, inside);
  const wide = element('path', {d, class: 'hit'}, inside);
  tells(wide, o.line, hot(['.edge' + i, '.bar' + o.from, '.bar' + o.to]));
  element('text', {x: (x0 + 2 * cx + x1) / 4, y: (y0 + 2 * cy + y1) / 4 + (under ? 10 : -2), class: 'label ' + o.kind}, inside)
    .textContent = o.label.slice(0, 40);
  return line;
}
svg.addEventListener('wheel', e => {
  e.preventDefault();
  const at = from + (e.offsetX - left) / (svg.clientWidth - left) * (to - from);
  const factor = e.deltaY > 0 ? 1.25 : 0.8;
  from = at - (at - from) * factor; to = at + (to - at) * factor; draw();
}, {passive: false});
let held = null;
svg.addEventListener('pointerdown', e => { held = e.clientX; });
window.addEventListener('pointerup', () => { held = null; });
window.addEventListener('pointermove', e => {
  if (held === null) return;
  const by = (held - e.clientX) / (svg.clientWidth - left) * (to - from);
  held = e.clientX; from += by; to += by; draw();
});
window.addEventListener('resize', draw);
evenly.addEventListener('change', fit);
evenly.checked = arrows.length > 0;
fit();
document.body.dataset.drawn = svg.querySelectorAll('rect.op').length;
document.body.dataset.arrows = svg.querySelectorAll('path.arrow').length;
