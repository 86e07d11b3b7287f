// Small wishes of the visitor, where the browser lets us keep them.

export function recall(name) {
  try { return localStorage.getItem(`bgclient.${name}`); } catch { return null; }
}

export function keep(name, value) {
  try { localStorage.setItem(`bgclient.${name}`, value); } catch { /* private windows may refuse; nothing is lost */ }
}
