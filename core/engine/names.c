/*
 * names.c - names for containers whose users gave none: an adjective and a person of science, as people know them from Docker.
 */
#include <stdio.h>
#include <sys/random.h>

#include "engine/internal.h"

static const char *const ADJECTIVES[] = {
	"able",    "agile",  "amber",   "apt",     "brave",   "bright", "brisk",   "calm",    "candid", "careful", "cheerful", "clear",  "clever",
	"cordial", "crisp",  "daring",  "deft",    "eager",   "earnest", "elegant", "fair",   "faithful", "fluent", "frank",  "gentle", "glad",
	"golden",  "grand",  "happy",   "hardy",   "hearty",  "honest", "humble",  "jolly",   "keen",   "kind",    "lively",   "lucid",  "merry",
	"modest",  "neat",   "nimble",  "noble",   "patient", "placid", "polite",  "prudent", "quick",  "quiet",   "ready",    "serene", "sharp",
	"silent",  "smart",  "steady",  "sturdy",  "subtle",  "swift",  "tidy",    "upbeat",  "vivid",  "warm",    "wise",     "witty",
};
static const char *const SURNAMES[] = {
	"abel",    "agnesi",  "ampere",   "archimedes", "aryabhata", "babbage", "banach",  "bell",     "bernoulli", "bohr",    "boole",    "cantor",
	"carson",  "cauchy",  "church",   "curie",      "darwin",    "descartes", "dijkstra", "dirac", "einstein",  "erdos",   "euclid",   "euler",
	"faraday", "fermat",  "fermi",    "feynman",    "fourier",   "franklin", "galileo", "galois",  "gauss",     "germain", "goodall",  "hamilton",
	"hawking", "hilbert", "hopper",   "hypatia",    "johnson",   "kepler",  "knuth",   "lagrange", "lamarr",    "laplace", "leibniz",  "lovelace",
	"maxwell", "mccarthy", "mendel",  "mirzakhani", "newton",    "noether", "pascal",  "pasteur",  "planck",    "ramanujan", "riemann", "shannon",
	"tesla",   "turing",  "vaughan",  "wiles",
};

void gt_name_new(char name[64])
{
	uint16_t random[3];
	if (getrandom(random, sizeof random, 0) != sizeof random)
		random[0] = random[1] = random[2] = (uint16_t)gt_now();
	snprintf(name, 64, "%s_%s%u", ADJECTIVES[random[0] % GT_COUNT(ADJECTIVES)], SURNAMES[random[1] % GT_COUNT(SURNAMES)], random[2] % 1000);
}
