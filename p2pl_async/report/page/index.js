"use strict";
// The table of runs follows the server's events.

new EventSource("/events").addEventListener("message", (event) => {
  const rows = JSON.parse(event.data).map((row) => {
    const made = document.createElement("tr");
    const link = document.createElement("a");
    link.href = row.link;
    link.textContent = row.run;
    const name = document.createElement("th");
    name.scope = "row";
    name.append(link);
    made.append(name);
    for (const key of ["status", "worst", "mean", "time", "bytes"]) {
      const cell = document.createElement("td");
      cell.textContent = row[key];
      made.append(cell);
    }
    return made;
  });
  document.getElementById("runs").replaceChildren(...rows);
});
