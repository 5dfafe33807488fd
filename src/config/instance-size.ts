/** Sizes of instances as people write them: `c2-m4`, or the name of an AWS type. */

export interface InstanceSize {
  vcpus: number;
  memoryMiB: number;
}

const MIB_PER_GIB = 1024;
/** [vCPUs, GiB] by family and size; a server's own list of them may be missing, or other than its neighbour's. */
const AWS: Readonly<Record<string, Readonly<Record<string, readonly [vcpus: number, memoryGiB: number]>>>> = {
  t1: { micro: [1, 0.612] },
  t2: {
    nano: [1, 0.5],
    micro: [1, 1],
    small: [1, 2],
    medium: [2, 4],
    large: [2, 8],
    xlarge: [4, 16],
    "2xlarge": [8, 32],
  },
  t3: {
    nano: [2, 0.5],
    micro: [2, 1],
    small: [2, 2],
    medium: [2, 4],
    large: [2, 8],
    xlarge: [4, 16],
    "2xlarge": [8, 32],
  },
  m3: { medium: [1, 3.75], large: [2, 7.5], xlarge: [4, 15], "2xlarge": [8, 30] },
  m4: { large: [2, 8], xlarge: [4, 16], "2xlarge": [8, 32], "4xlarge": [16, 64], "10xlarge": [40, 160] },
  m5: { large: [2, 8], xlarge: [4, 16], "2xlarge": [8, 32], "4xlarge": [16, 64], "8xlarge": [32, 128] },
  c4: { large: [2, 3.75], xlarge: [4, 7.5], "2xlarge": [8, 15], "4xlarge": [16, 30], "8xlarge": [36, 60] },
  c5: { large: [2, 4], xlarge: [4, 8], "2xlarge": [8, 16], "4xlarge": [16, 32], "9xlarge": [36, 72] },
};

/** @throws Error with a sentence on what is wrong */
export function parseInstanceSize(text: string): InstanceSize {
  const plain = /^c(\d{1,4})-m(\d{1,5})$/.exec(text);
  if (plain !== null) {
    const [vcpus, memoryGiB] = [Number(plain[1]), Number(plain[2])];
    if (vcpus > 0 && memoryGiB > 0) return { vcpus, memoryMiB: memoryGiB * MIB_PER_GIB };
  }
  const [family = "", size = "", ...rest] = text.split(".");
  const found = rest.length === 0 && Object.hasOwn(AWS, family) ? AWS[family]?.[size] : undefined;
  if (found !== undefined) return { vcpus: found[0], memoryMiB: Math.round(found[1] * MIB_PER_GIB) };
  throw new Error(
    `expected a size such as "c2-m4" (2 CPUs, 4 GiB) or "t3.small", but this is ${JSON.stringify(text.slice(0, 60))}`,
  );
}
