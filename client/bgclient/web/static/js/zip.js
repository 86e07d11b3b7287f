// A ZIP of files that are compressed already: stored as they are (APPNOTE.TXT 6.3.10, without ZIP64).

const CRC = Uint32Array.from({ length: 256 }, (_, n) => {
  for (let bit = 0; bit < 8; bit++) n = n & 1 ? (n >>> 1) ^ 0xedb88320 : n >>> 1;
  return n;
});

function crc32(bytes) {
  let crc = ~0;
  for (const byte of bytes) crc = (crc >>> 8) ^ CRC[(crc ^ byte) & 255];
  return ~crc >>> 0;
}

function record(signature, fields, ...tail) {
  const size = 4 + fields.reduce((sum, [width]) => sum + width, 0);
  const view = new DataView(new ArrayBuffer(size));
  view.setUint32(0, signature, true);
  let at = 4;
  for (const [width, value] of fields) {
    if (width === 2) view.setUint16(at, value, true);
    else view.setUint32(at, value, true);
    at += width;
  }
  return [view.buffer, ...tail];
}

const size = (parts) => parts.reduce((sum, part) => sum + (part.byteLength ?? part.size), 0);

/** files: [{name, blob}]; names are made unique. */
export async function zip(files, onFile = () => {}) {
  const now = new Date();
  const time = (now.getHours() << 11) | (now.getMinutes() << 5) | (now.getSeconds() >> 1);
  const date = ((now.getFullYear() - 1980) << 9) | ((now.getMonth() + 1) << 5) | now.getDate();
  const parts = [], directory = [], taken = new Set();
  let offset = 0;
  for (const { name, blob } of files) {
    let unique = name;
    for (let n = 2; taken.has(unique); n++) unique = name.replace(/(\.\w+)?$/, ` (${n})$1`);
    taken.add(unique);
    const label = new TextEncoder().encode(unique);
    const crc = crc32(new Uint8Array(await blob.arrayBuffer()));
    // version 2.0, UTF-8 name, stored
    const common = [[2, 20], [2, 0x0800], [2, 0], [2, time], [2, date], [4, crc], [4, blob.size], [4, blob.size], [2, label.length], [2, 0]];
    const local = record(0x04034b50, common, label, blob);
    directory.push(...record(0x02014b50, [[2, 20], ...common, [2, 0], [2, 0], [2, 0], [4, 0], [4, offset]], label));
    parts.push(...local);
    offset += size(local);
    onFile();
  }
  const end = [[2, 0], [2, 0], [2, files.length], [2, files.length], [4, size(directory)], [4, offset], [2, 0]];
  return new Blob([...parts, ...directory, ...record(0x06054b50, end)], { type: "application/zip" });
}
