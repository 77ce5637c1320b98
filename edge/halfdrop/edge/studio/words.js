// How the Studio says numbers.

/** 8 → "8 s", 300 → "5 min", 7300 → "2 h". */
export function sayDuration(seconds) {
  if (seconds < 90) return `${Math.ceil(seconds)} s`;
  if (seconds < 90 * 60) return `${Math.round(seconds / 60)} min`;
  return `${Math.round(seconds / 3600)} h`;
}
