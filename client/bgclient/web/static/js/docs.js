// The API's description for people, made from openapi.json.

const make = (tag, text = "", values = {}) => Object.assign(document.createElement(tag), { textContent: text }, values);

function table(caption, heads, rows) {
  const box = make("div", "", { className: "table", tabIndex: 0 });
  box.setAttribute("role", "region");
  box.setAttribute("aria-label", caption);
  const grid = make("table"), head = grid.createTHead().insertRow();
  head.append(...heads.map((text) => make("th", text, { scope: "col" })));
  const body = grid.createTBody();
  for (const cells of rows) {
    const row = body.insertRow();
    cells.forEach((text, at) => {
      const cell = row.insertCell();
      cell.append(at ? text : make("code", text));
    });
  }
  box.append(grid);
  return box;
}

function values({ enum: known, default: usual, type, format }) {
  if (format === "binary") return "upload";
  const text = known ? known.join(", ") : type;
  return usual === undefined ? text : `${text} (${usual})`;
}

function describe(path, method, operation) {
  const section = make("section");
  const title = make("h2");
  title.append(make("span", method.toUpperCase(), { className: "method" }), make("code", path));
  section.append(title, make("p", operation.summary));
  const body = operation.requestBody?.content["multipart/form-data"].schema.properties;
  if (body) {
    const rows = Object.entries(body).map(([name, schema]) => [name, schema.description, values(schema)]);
    section.append(make("h3", "Parameters"), table("Parameters", ["Name", "Meaning", "Values (default)"], rows));
  }
  const answers = Object.entries(operation.responses).map(([status, { description }]) => [status, description]);
  section.append(make("h3", "Answers"), table(`Answers of ${path}`, ["Status", "Meaning"], answers));
  return section;
}

const api = await (await fetch("openapi.json")).json();
document.getElementById("summary").textContent = api.info.summary;
document.getElementById("example").textContent =
  `curl -F image_file=@me.jpg -F size=full ${new URL("v1.0/removebg", document.baseURI)} -o me.png`;
document.getElementById("operations").append(
  ...Object.entries(api.paths).flatMap(([path, methods]) => Object.entries(methods).map(([method, operation]) => describe(path, method, operation))),
);
