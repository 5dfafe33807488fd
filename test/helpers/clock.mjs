/** A preload for the daemon under test: its clock is FLEETINGD_CLOCK_SHIFT_MS away from the host's, from SIGUSR2 on. */
const shiftMs = Number(process.env.FLEETINGD_CLOCK_SHIFT_MS ?? 0);
const HostDate = globalThis.Date;
let isShifted = false;
const now = () => HostDate.now() + (isShifted ? shiftMs : 0);

globalThis.Date = class extends HostDate {
  constructor(...args) {
    if (args.length === 0) super(now());
    else super(...args);
  }
  static now() {
    return now();
  }
};
process.on("SIGUSR2", () => {
  isShifted = true;
});
