/* For an engine of the next major version alone. */
const unsigned gantry_plugin_v2[16] = { sizeof(unsigned[16]), 2 };
