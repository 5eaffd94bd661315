// The few fields of TensorFlow's graph.proto, node_def.proto, attr_value.proto, tensor.proto and
// tensor_shape.proto that a constant needs, by protozero: LibTorch exports a protobuf of its own,
// with which the system's would clash.
#include "dkdm/graph_def.hpp"

#include <ATen/ATen.h>

#include <cstring>
#include <protozero/pbf_reader.hpp>

#include "io/foreign_file.hpp"
#include "io/input_file.hpp"

namespace dkdm::io {
namespace {

using protozero::pbf_reader;
using protozero::pbf_wire_type;
using protozero::tag_and_type;

constexpr auto kBytes = pbf_wire_type::length_delimited;
constexpr auto kVarint = pbf_wire_type::varint;

enum Field : protozero::pbf_tag_type {  // message_field
  graph_node = 1,
  node_name = 1,
  node_op = 2,
  node_attribute = 5,
  entry_key = 1,
  entry_value = 2,
  attribute_tensor = 8,
  tensor_type = 1,
  tensor_shape = 2,
  tensor_content = 4,
  tensor_float = 5,
  tensor_double = 6,
  shape_dimension = 2,
  dimension_size = 1,
};

constexpr std::int32_t kFloatType = 1, kDoubleType = 2;

std::vector<std::int64_t> shape_of(pbf_reader shape) {
  std::vector<std::int64_t> sizes;
  while (shape.next(shape_dimension, kBytes)) {
    std::int64_t size = 0;
    for (auto dimension = shape.get_message(); dimension.next(dimension_size, kVarint);)
      size = dimension.get_int64();
    sizes.push_back(size);
  }
  return sizes;
}

// Values come as raw bytes, or as a list that is packed or not; a list shorter than the shape
// repeats its last value.
struct Values {
  protozero::data_view content{};
  std::vector<float> floats;
  std::vector<double> doubles;
};

template <class T>
at::Tensor from_list(const std::vector<T>& list, at::IntArrayRef sizes, const std::string& where) {
  const auto count = c10::multiply_integers(sizes);
  const at::Tensor listed = at::tensor(at::ArrayRef<T>(list), c10::CppTypeToScalarType<T>::value);
  if (static_cast<std::int64_t>(list.size()) == count) return listed.view(sizes);
  if (list.size() == 1) return listed[0].expand(sizes);  // no memory for a shape that lies
  throw DataError(where,
                  "lists " + std::to_string(list.size()) + " values for " + std::to_string(count));
}

at::Tensor constant(const Values& values, std::int32_t type, at::IntArrayRef sizes,
                    const std::string& where) {
  const std::uint64_t item = type == kFloatType ? sizeof(float) : sizeof(double);
  const std::uint64_t bytes = array_bytes(sizes.vec(), item, where);
  if (values.content.empty()) {
    return type == kFloatType ? from_list(values.floats, sizes, where)
                              : from_list(values.doubles, sizes, where);
  }
  if (values.content.size() != bytes) {
    throw DataError(where, "holds " + std::to_string(values.content.size()) + " bytes, expected " +
                               std::to_string(bytes));
  }
  at::Tensor tensor = at::empty(sizes, type == kFloatType ? at::kFloat : at::kDouble);
  std::memcpy(tensor.mutable_data_ptr(), values.content.data(), bytes);
  return tensor;
}

// Undefined for a type that is not asked for.
at::Tensor tensor_of(pbf_reader message, const std::string& where) {
  std::int32_t type = 0;
  std::vector<std::int64_t> sizes;
  Values values;
  while (message.next()) {
    switch (message.tag_and_type()) {
      case tag_and_type(tensor_type, kVarint): type = message.get_enum(); break;
      case tag_and_type(tensor_shape, kBytes): sizes = shape_of(message.get_message()); break;
      case tag_and_type(tensor_content, kBytes): values.content = message.get_view(); break;
      case tag_and_type(tensor_float, kBytes):
        for (const float v : message.get_packed_float()) values.floats.push_back(v);
        break;
      case tag_and_type(tensor_float, pbf_wire_type::fixed32):
        values.floats.push_back(message.get_float());
        break;
      case tag_and_type(tensor_double, kBytes):
        for (const double v : message.get_packed_double()) values.doubles.push_back(v);
        break;
      case tag_and_type(tensor_double, pbf_wire_type::fixed64):
        values.doubles.push_back(message.get_double());
        break;
      default: message.skip();
    }
  }
  if (type != kFloatType && type != kDoubleType) return {};
  return constant(values, type, sizes, where);
}

// The attribute "value" of a constant, where `entry` is it.
at::Tensor value_of(pbf_reader entry, const std::string& where) {
  std::string key;
  pbf_reader attribute;
  while (entry.next()) {
    switch (entry.tag_and_type()) {
      case tag_and_type(entry_key, kBytes): key = entry.get_string(); break;
      case tag_and_type(entry_value, kBytes): attribute = entry.get_message(); break;
      default: entry.skip();
    }
  }
  if (key == "value" && attribute.next(attribute_tensor, kBytes))
    return tensor_of(attribute.get_message(), where);
  return {};
}

struct Node {
  std::string name, op;
  std::vector<protozero::data_view> attributes;
};

Node node_of(pbf_reader message) {
  Node node;
  while (message.next()) {
    switch (message.tag_and_type()) {
      case tag_and_type(node_name, kBytes): node.name = message.get_string(); break;
      case tag_and_type(node_op, kBytes): node.op = message.get_string(); break;
      case tag_and_type(node_attribute, kBytes):
        node.attributes.push_back(message.get_view());
        break;
      default: message.skip();
    }
  }
  return node;
}

}  // namespace

TensorMap read_graph_constants(const std::filesystem::path& path) {
  const MappedFile file(path);
  TensorMap constants;
  std::string last;
  try {
    pbf_reader graph(file.data(), file.size());
    while (graph.next()) {
      if (graph.tag_and_type() != tag_and_type(graph_node, kBytes)) {
        graph.skip();
        continue;
      }
      const Node node = node_of(graph.get_message());
      if (node.name.empty() || node.op.empty()) break;  // no node: no graph
      last = node.name;
      if (node.op != "Const") continue;
      const std::string where = path.string() + ": constant '" + node.name + "'";
      for (const auto& attribute : node.attributes) {
        const at::Tensor tensor = value_of(pbf_reader(attribute), where);
        if (tensor.defined() && !constants.emplace(node.name, tensor).second)
          throw DataError(where, "is there twice");
      }
    }
  } catch (const protozero::exception& error) {
    if (!last.empty())
      throw DataError(path.string() + ": after node '" + last + "'",
                      std::string("the graph is truncated or damaged (") + error.what() + ")");
  }
  if (last.empty())
    refuse_foreign(file, "a TensorFlow graph (a binary GraphDef, as in a frozen .pb)");
  return constants;
}

}  // namespace dkdm::io
