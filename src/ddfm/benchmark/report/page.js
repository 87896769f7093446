"use strict";
// Sort the summary by the column whose heading is chosen; what has no value stays at the end.
for (const button of document.querySelectorAll("#summary thead button")) {
  button.addEventListener("click", () => {
    const heading = button.closest("th");
    const now = heading.getAttribute("aria-sort");
    const order = now ? (now === "ascending" ? "descending" : "ascending") : button.dataset.first;
    const sign = order === "ascending" ? 1 : -1;
    const body = document.querySelector("#summary tbody");
    const key = (row) => row.cells[heading.cellIndex].dataset.value;
    const compare = (left, right) => {
      const [a, b] = [key(left), key(right)];
      if (a === "" || b === "") return (a === "") - (b === "");
      const difference = heading.cellIndex === 0 ? a.localeCompare(b) : Number(a) - Number(b);
      return sign * difference;
    };
    for (const other of heading.parentElement.cells) other.removeAttribute("aria-sort");
    heading.setAttribute("aria-sort", order);
    body.append(...[...body.rows].sort(compare));
  });
}
