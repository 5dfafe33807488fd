/** Times of this browser's own zone, as logs have them. */
const CLOCK = new Intl.DateTimeFormat(undefined, {
  hour: "2-digit",
  minute: "2-digit",
  second: "2-digit",
  hourCycle: "h23",
});

export function clock(time: number | string): string {
  return CLOCK.format(new Date(time));
}

/** `0.25 s`, `1.3 s`, `4m 10s` */
export function duration(seconds: number): string {
  if (seconds >= 120) return `${Math.floor(seconds / 60)}m ${Math.round(seconds % 60)}s`;
  return `${seconds >= 1 || seconds === 0 ? Number(seconds.toFixed(1)) : Number(seconds.toPrecision(2))} s`;
}
