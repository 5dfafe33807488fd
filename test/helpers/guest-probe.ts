/** Probes from inside a VM, in Perl, which Debian and Ubuntu always have. */

export interface Way {
  /** What is there. */
  to: string;
  protocol: "tcp" | "udp" | "echo";
  address: string;
  port?: number;
}

export const nameOf = ({ to, protocol, address, port = 0 }: Way): string =>
  `${to} (${protocol} ${address} ${port})`;

/**
 * Tries ways from inside a VM, all at once for as many seconds as come first, and prints 1 or 0 for each: `protocol address port`.
 * With `serve PORT` it is there to be found by UDP; `from address port -4|-6 source text` only sends, with a source that it gives itself.
 */
export const PROBE = `
use strict; use Socket qw(:DEFAULT inet_pton pack_sockaddr_in6 IPPROTO_IPV6 IPV6_V6ONLY SO_BROADCAST);
sub address {
  my ($text, $port) = @_;
  return (AF_INET, pack_sockaddr_in($port, inet_aton($text))) unless $text =~ /:/;
  return (AF_INET6, pack_sockaddr_in6($port, inet_pton(AF_INET6, $text)));
}
my $seconds;
sub probe {
  my ($protocol, $to, $port) = @_;
  if ($protocol eq "echo") { open(STDOUT, ">", "/dev/null"); exec("ping", "-n", "-c", "1", "-W", $seconds, $to) }
  my ($family, $address) = address($to, $port);
  $SIG{ALRM} = sub { exit 1 };
  alarm $seconds;
  my $answer;
  if ($protocol eq "tcp") {
    socket(my $socket, $family, SOCK_STREAM, 0) or return 0;
    return connect($socket, $address) && sysread($socket, $answer, 1);
  }
  socket(my $socket, $family, SOCK_DGRAM, 0) or return 0;
  setsockopt($socket, SOL_SOCKET, SO_BROADCAST, 1);
  send($socket, "hello", 0, $address) or return 0;
  return defined recv($socket, $answer, 100, 0);
}
if ($ARGV[0] eq "serve") {
  socket(my $socket, AF_INET6, SOCK_DGRAM, 0) or die $!;
  setsockopt($socket, IPPROTO_IPV6, IPV6_V6ONLY, pack("i", 0));
  bind($socket, pack_sockaddr_in6($ARGV[1], inet_pton(AF_INET6, "::"))) or die $!;
  while (my $peer = recv($socket, my $text, 100, 0)) { send($socket, $text, 0, $peer) }
  exit;
}
my ($first, $to, $port, $family, $from, $text) = split / /, $ARGV[0];
if ($first eq "from") {
  my $length = $family eq "-6" ? 128 : 32;
  system("ip", $family, "address", "add", "$from/$length", "dev", "eth0", $family eq "-6" ? "nodad" : ());
  my ($kind, $source) = address($from, 0);
  socket(my $socket, $kind, SOCK_DGRAM, 0) or die $!;
  bind($socket, $source) or die $!;
  send($socket, "$text from $from", 0, (address($to, $port))[1]);
  select(undef, undef, undef, 0.5);
  system("ip", $family, "address", "delete", "$from/$length", "dev", "eth0");
  exit;
}
my (%ways, @found);
$seconds = shift @ARGV;
for my $index (0 .. $#ARGV) {
  my $pid = fork;
  if (!$pid) { exit(probe(split / /, $ARGV[$index]) ? 0 : 1) }
  $ways{$pid} = $index;
}
while ((my $pid = wait) > 0) { $found[$ways{$pid}] = $? == 0 ? 1 : 0 }
print join("", @found), "\n";
`;
