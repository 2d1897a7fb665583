/* Macros of libraries whose headers cppcheck is not shown: what they expand to matters to it. */
#define json_array_foreach(array, index, value) for (index = 0; index < json_array_size(array) && (value = json_array_get(array, index)); index++)
#define json_object_foreach(object, key, value) for (key = json_key(object); key && (value = json_value(object, key)); key = json_next(object, key))
